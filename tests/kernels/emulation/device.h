// The device behind the emulated cuda_prims.h: blocks, threads, barriers, and who touched which memory when.
//
// Threads are fibers: each has a stack of its own and runs until a barrier or a shuffle makes it wait for others. When
// all who wait for one another have arrived they go on. If nobody can go on, the kernel has diverged, and we say so.
//
// Order is kept by a clock that ticks at every barrier. An access carries the tick of its warp's last barrier, its
// stamp. Two accesses are ordered if they are one thread's; if they are of one warp and its barrier, of either kind,
// has ticked in between; or if the block's has. Two accesses that are not ordered, one of them a write, are a race,
// whatever the fibers' actual order was. Shuffles order nothing: CUDA does not promise it. Blocks run one after
// another, and nothing orders them within a launch.
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <source_location>
#include <string>
#include <vector>

namespace emulation {

using Where = std::source_location;

constexpr int kLanes = 32, kMaxThreads = 1024, kSharedBytes = 48 << 10, kArenaBytes = 99 << 10;
constexpr int kStackBytes = 128 << 10, kGuardBytes = 4096;
constexpr int kLaunchFailure = 719;  // cudaErrorLaunchFailure: any fault

struct Access {
  uint32_t stamp = 0;  // 0: none yet
  uint16_t thread = 0, line = 0;
};

// What is remembered of one item of memory.
struct Trace {
  Access written, read;          // the last ones
  uint32_t read_by_lanes = 0;    // of the last reader's warp, at that stamp
  Access read_by_another_warp;   // the last one before, in this block, that was of another warp
  Access read_by_another_block;  // the same of another block, in this launch
  bool awaited = false;          // a copy is on its way to it
};

// An asynchronous copy of a thread: `count` items, or zeros without `from`.
struct Copy {
  struct Memory* to;
  int index, count;
  const void* from;
  uint16_t line;
  int group;
};

// Memory that kernels may touch; items are numbers of `item_bytes`.
struct Memory {
  std::string name;
  char* begin = nullptr;
  int64_t count = 0;
  int item_bytes = 0;
  bool writable = false, shared = false;
  std::unique_ptr<Trace[], decltype(&free)> traces{nullptr, &free};  // calloc: pages nobody touches cost nothing

  Memory(const char* name, void* begin, int64_t count, int item_bytes, bool writable, bool shared)
      : name(name), begin(static_cast<char*>(begin)), count(count), item_bytes(item_bytes), writable(writable),
        shared(shared) {
    if (writable) traces.reset(static_cast<Trace*>(calloc(count, sizeof(Trace))));
  }
};

enum class State { kReady, kWaiting, kFinished };

struct Thread {
  int index;
  State state;
  bool begun = false;  // it has a stack with something on it
  jmp_buf at;
  const char* waits_for = "";
  int waits_at = 0;  // line
  float given = 0, taken = 0;
  int source = 0;              // the lane that `taken` comes from
  size_t declared_shared = 0;  // SHARED declarations passed so far, and arrays taken from the arena
  void* mine = nullptr;        // what it brings to an operation that its warp does together
  std::deque<Copy> copies;     // not yet waited for
  int copy_group = 0;          // the one that its next copy belongs to
};

// Those who have to arrive before anyone goes on, in the threads [first, first + size).
struct Meeting {
  int first = 0, size = 0, arrived = 0;
  uint32_t stamp = 0;  // the last tick that ordered their memory
  Where where;
};

class Device {
 public:
  uint64_t schedule = 0;  // 0: ascending, 1: descending, other: seed of a pseudo-random order
  std::string fault;      // what went wrong in the last launch

  int thread_index() const { return current_->index; }
  int64_t block_index() const { return block_; }

  int launch(int64_t blocks, int threads, int arena_bytes, const std::function<void()>& kernel) {
    fault.clear();
    if (arena_bytes < 0 || arena_bytes > kArenaBytes) {
      fault = "a launch with " + std::to_string(arena_bytes) + " bytes of shared memory: every device has " +
              std::to_string(kArenaBytes) + " for a block";
      return kLaunchFailure;
    }
    arena_left_ = arena_bytes;
    if (blocks < 1 || blocks > INT32_MAX || threads < kLanes || threads > kMaxThreads || threads % kLanes != 0) {
      fault = "a launch of " + std::to_string(blocks) + " blocks of " + std::to_string(threads) + " threads: there " +
              "may be 1 to 2^31-1 blocks of 32, 64, ... 1024 threads";
      return kLaunchFailure;
    }
    kernel_ = &kernel;
    random_.seed(schedule);
    warps_.resize(threads / kLanes);
    count_ = threads;
    shared_.clear();
    shared_bytes_ = declared_bytes_ = 0;
    launch_start_ = clock_ + 1;
    starts_.clear();
    arrange(block_order_, blocks);
    for (const uint32_t block : block_order_) {
      run_block(block);
      if (fault.empty()) continue;
      for (Thread& thread : threads_) {
        thread.begun = false;  // their stacks are abandoned
        thread.copies.clear();
      }
      return kLaunchFailure;
    }
    return 0;
  }

  void sync_block(Where where) {
    if (!arrive(whole_block_, "sync_block", where)) return wait();
    whole_block_.stamp = ++clock_;
    for (Meeting& warp : warps_) warp.stamp = clock_;
    dismiss(whole_block_);
  }
  void sync_warp(Where where) {
    if (!arrive(warp(), "sync_warp", where)) return wait();
    warp().stamp = ++clock_;
    dismiss(warp());
  }
  float shuffle(float x, int source, Where where) {
    if (source < 0 || source >= kLanes) fail(where, "takes a value from lane %d of 0..31", source);
    current_->given = x;
    current_->source = source;
    if (!arrive(warp(), "a shuffle", where)) {
      wait();
    } else {
      Thread* lanes = &threads_[warp().first];
      for (int lane = 0; lane < kLanes; ++lane) lanes[lane].taken = lanes[lanes[lane].source].given;
      dismiss(warp());
    }
    return current_->taken;
  }

  // act(what the lanes of the warp bring) once all of them are there.
  void together(void* mine, void (*act)(void* const*), const char* what, Where where) {
    current_->mine = mine;
    if (!arrive(warp(), what, where)) return wait();
    void* all[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) all[lane] = threads_[warp().first + lane].mine;
    act(all);
    dismiss(warp());
  }

  // The block's memory for a thread's next SHARED declaration. All threads of all blocks declare the same.
  Memory* declare_shared(const char* name, int count, int item_bytes, Where where) {
    const int bytes = (count * item_bytes + 15) / 16 * 16;
    if (current_->declared_shared == shared_.size() && (declared_bytes_ += bytes) > kSharedBytes)
      fail(where, "declares shared memory '%s', which makes more than 48 KiB", name);
    return next_shared(name, count, item_bytes, where);
  }
  // The same from what the launch has given.
  Memory* take_shared(const char* name, int count, int item_bytes, Where where) {
    const int bytes = (count * item_bytes + 15) / 16 * 16;
    if (current_->declared_shared == shared_.size() && (arena_left_ -= bytes) < 0)
      fail(where, "takes shared memory '%s', %d bytes more than the launch gives", name, -arena_left_);
    return next_shared(name, count, item_bytes, where);
  }

  // An asynchronous copy to shared memory; without `from`, of zeros.
  void start_copy(Memory& to, int index, int count, const void* from, Where where) {
    use(to, index, count, to.item_bytes, true, where);
    memset(to.begin + index * to.item_bytes, 0xff, count * to.item_bytes);
    for (int i = index; i < index + count; ++i) to.traces[i].awaited = true;
    current_->copies.push_back({&to, index, count, from, uint16_t(where.line()), current_->copy_group});
  }
  void end_group_of_copies() { ++current_->copy_group; }
  void wait_for_copies(int groups, Where where) {
    std::deque<Copy>& copies = current_->copies;
    for (; !copies.empty() && copies.front().group < current_->copy_group - groups; copies.pop_front()) {
      const Copy& copy = copies.front();
      const size_t bytes = copy.count * copy.to->item_bytes;
      char* const to = copy.to->begin + copy.index * copy.to->item_bytes;
      copy.from ? void(memcpy(to, copy.from, bytes)) : void(memset(to, 0, bytes));
      for (int i = copy.index; i < copy.index + copy.count; ++i) {
        copy.to->traces[i].awaited = false;
        remember(copy.to->traces[i], true, block_start_, uint16_t(where.line()));
      }
    }
  }
  void allow(const char* name, void* begin, int64_t count, int item_bytes, bool writable) {
    Memory memory(name, begin, count, item_bytes, writable, false);
    const auto after = std::find_if(global_.begin(), global_.end(), [&](auto& m) { return m.begin > memory.begin; });
    global_.insert(after, std::move(memory));
  }
  void forget_all() { global_.clear(); }

  // Checks that the thread may use `count` numbers at once from `address` on, and remembers that it did.
  void use_global(const void* address, int count, int item_bytes, bool write, Where where) {
    const auto at = static_cast<const char*>(address);
    auto memory = std::upper_bound(global_.begin(), global_.end(), at, [](auto* x, auto& m) { return x < m.begin; });
    if (memory == global_.begin())
      fail(where, "%s global memory at %p, which is in no allocation", write ? "writes" : "reads", address);
    --memory;
    use(*memory, (at - memory->begin) / memory->item_bytes, count, item_bytes, write, where);
  }
  void use_shared(Memory& memory, int index, int count, bool write, Where where) {
    use(memory, index, count, memory.item_bytes, write, where);
  }

 private:
  Memory* next_shared(const char* name, int count, int item_bytes, Where where) {
    const size_t number = current_->declared_shared++;
    if (number == shared_.size()) {
      shared_.emplace_back(name, arena_ + shared_bytes_, count, item_bytes, true, true);
      shared_bytes_ += (count * item_bytes + 15) / 16 * 16;
    }
    if (shared_[number].name != name || shared_[number].count != count || shared_[number].item_bytes != item_bytes)
      fail(where, "declares shared memory '%s' [%d] where another thread declared '%s' [%lld]", name, count,
           shared_[number].name.c_str(), static_cast<long long>(shared_[number].count));
    return &shared_[number];
  }

  void use(Memory& memory, int64_t index, int count, int item_bytes, bool write, Where where) {
    const auto say = [&](const char* rest) {
      const std::string which = count == 1 ? "index " : std::to_string(count) + " numbers from index ";
      fail(where, "%s %s%lld of %s'%s'%s", write ? "writes" : "reads", which.c_str(), static_cast<long long>(index),
           memory.shared ? "shared memory " : "", memory.name.c_str(), rest);
    };
    if (item_bytes != memory.item_bytes) say(", as if it held another type");
    if (index < 0 || index + count > memory.count) say((", which has " + std::to_string(memory.count)).c_str());
    if (reinterpret_cast<uintptr_t>(memory.begin + index * item_bytes) % (count * item_bytes) != 0)
      say(", which is not aligned");
    if (!memory.writable) return write ? say(", which is read-only") : void();
    for (Trace* trace = &memory.traces[index]; trace != &memory.traces[index + count]; ++trace) {
      if (trace->awaited) say(", which a copy is on its way to");
      if (memory.shared && !write && trace->written.stamp < block_start_) say(", which nobody has written");
      const uint32_t since = memory.shared ? block_start_ : launch_start_;
      const Access* before = race(*trace, write, since);
      if (before == nullptr) {
        remember(*trace, write, since, uint16_t(where.line()));
        continue;
      }
      index = trace - memory.traces.get();
      count = 1;
      const bool here = before->stamp >= block_start_;
      say((std::string(", which ") + (here ? "thread " : "block ") +
           std::to_string(here ? int64_t(before->thread) : block_at(before->stamp)) +
           (before == &trace->written ? " wrote" : " read") + " in line " + std::to_string(before->line) +
           (here ? " with no barrier in between" : " in the same launch"))
              .c_str());
    }
  }

  // An access since `since` that this one is not ordered with, or null.
  const Access* race(Trace& trace, bool write, uint32_t since) {
    const uint32_t warp_stamp = warp().stamp, block_stamp = whole_block_.stamp;
    const int lane = current_->index % kLanes;
    const auto conflicts = [&](const Access& x) {
      if (x.stamp < since || (x.stamp >= block_start_ && x.thread == current_->index)) return false;
      return x.stamp < block_start_ || x.stamp >= (of_this_warp(x) ? warp_stamp : block_stamp);
    };
    if (conflicts(trace.written)) return &trace.written;
    if (!write) return nullptr;
    if (of_this_warp(trace.read) && trace.read.stamp == warp_stamp) {
      const uint32_t others = trace.read_by_lanes & ~(1u << lane);
      if (others) trace.read.thread = uint16_t(current_->index - lane + __builtin_ctz(others));
    }
    for (const Access* x : {&trace.read, &trace.read_by_another_warp, &trace.read_by_another_block})
      if (conflicts(*x)) return x;
    return nullptr;
  }

  void remember(Trace& trace, bool write, uint32_t since, uint16_t line) {
    const Access now = {warp().stamp, uint16_t(current_->index), line};
    if (write) {
      trace.written = now;
      return;
    }
    if (trace.read.stamp >= since && trace.read.stamp < block_start_) trace.read_by_another_block = trace.read;
    if (trace.read.stamp >= block_start_ && !of_this_warp(trace.read)) trace.read_by_another_warp = trace.read;
    if (trace.read.stamp != now.stamp || !of_this_warp(trace.read)) trace.read_by_lanes = 0;
    trace.read = now;
    trace.read_by_lanes |= 1u << current_->index % kLanes;
  }

  bool of_this_warp(const Access& x) const { return x.thread / kLanes == current_->index / kLanes; }
  Meeting& warp() { return warps_[current_->index / kLanes]; }
  int64_t block_at(uint32_t stamp) const {
    return block_order_[std::upper_bound(starts_.begin(), starts_.end(), stamp) - starts_.begin() - 1];
  }

  // True for the last to arrive, who then does what was waited for.
  bool arrive(Meeting& meeting, const char* what, Where where) {
    current_->waits_for = what;
    current_->waits_at = int(where.line());
    if (meeting.arrived == 0) meeting.where = where;
    if (meeting.where.line() != where.line() || meeting.where.column() != where.column())
      fail(where, "reaches %s while others wait in line %u: the threads have diverged", what, meeting.where.line());
    return ++meeting.arrived == meeting.size;
  }
  void dismiss(Meeting& meeting) {
    meeting.arrived = 0;
    for (int i = 0; i < meeting.size; ++i) threads_[meeting.first + i].state = State::kReady;
  }
  void wait() {
    current_->state = State::kWaiting;
    leave();
  }

  void run_block(int64_t block) {
    block_ = block;
    block_start_ = ++clock_;
    starts_.push_back(block_start_);
    whole_block_ = {0, count_, 0, block_start_, {}};
    for (int i = 0; i < int(warps_.size()); ++i) warps_[i] = {i * kLanes, kLanes, 0, block_start_, {}};
    for (int i = 0; i < count_; ++i) {
      threads_[i].index = i;
      threads_[i].state = State::kReady;
      threads_[i].declared_shared = 0;
    }
    finished_ = 0;
    arrange(thread_order_, count_);
    while (finished_ < count_) {
      if (schedule > 1) arrange(thread_order_, count_);
      bool anyone = false;
      for (const uint32_t i : thread_order_) {
        if (threads_[i].state != State::kReady) continue;
        anyone = true;
        enter(threads_[i]);
        if (!fault.empty()) return;
      }
      if (!anyone) return report_deadlock();
    }
  }

  [[noreturn]] void fail_unawaited() {
    fault = "block " + std::to_string(block_) + ", thread " + std::to_string(current_->index) +
            " ends before the copy that it started in line " + std::to_string(current_->copies.front().line) + ".";
    _longjmp(scheduler_, 1);
  }

  void report_deadlock() {
    std::map<std::string, std::vector<int>> groups;
    for (int i = 0; i < count_; ++i) {
      const Thread& thread = threads_[i];
      groups[thread.state == State::kFinished
                 ? std::string("have finished")
                 : std::string("wait for ") + thread.waits_for + " in line " + std::to_string(thread.waits_at)]
          .push_back(i);
    }
    fault = "block " + std::to_string(block_) + " cannot go on, its threads have diverged:";
    for (const auto& [what, threads] : groups)
      fault += " " + std::to_string(threads.size()) + " (thread " + std::to_string(threads[0]) +
               (threads.size() > 1 ? ", ...) " : ") ") + what + ";";
    fault.back() = '.';
  }

  void arrange(std::vector<uint32_t>& order, int64_t count) {
    order.resize(count);
    std::iota(order.begin(), order.end(), 0);
    if (schedule == 1) std::reverse(order.begin(), order.end());
    if (schedule > 1) std::shuffle(order.begin(), order.end(), random_);
  }

  // From the scheduler into a thread, until it leaves. _setjmp and _longjmp switch stacks without a system call.
  void enter(Thread& thread) {
    current_ = &thread;
    if (_setjmp(scheduler_)) return;
    if (thread.begun) _longjmp(thread.at, 1);
    thread.begun = true;
    char* stack = stacks_ + int64_t(thread.index) * kStackBytes;
    mprotect(stack, kGuardBytes, PROT_NONE);
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = stack;
    context.uc_stack.ss_size = kStackBytes;
    makecontext(&context, &Device::live, 0);
    setcontext(&context);
  }
  void leave() {
    if (!_setjmp(current_->at)) _longjmp(scheduler_, 1);
  }
  static void live();  // a thread: the kernel for one block after another

  // Ends the launch from within a thread, whose stack is abandoned: nothing on it is destroyed. `format` goes on from
  // "block 0, thread 0".
  [[noreturn, gnu::format(printf, 3, 4)]] void fail(Where where, const char* format, ...) {
    const char* slash = strrchr(where.file_name(), '/');
    char text[512];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    fault = std::string(slash ? slash + 1 : where.file_name()) + ":" + std::to_string(where.line()) + ": block " +
            std::to_string(block_) + ", thread " + std::to_string(current_->index) + " " + text + ".";
    _longjmp(scheduler_, 1);
  }

  uint32_t clock_ = 0, launch_start_ = 0, block_start_ = 0;  // 2^32 ticks take hours
  std::vector<uint32_t> starts_, block_order_, thread_order_;  // starts_[i]: of block_order_[i]
  std::minstd_rand random_;
  std::vector<Memory> global_;  // by address
  std::deque<Memory> shared_;   // by declaration, the same for all blocks of a launch
  int shared_bytes_ = 0, declared_bytes_ = 0, arena_left_ = 0;
  alignas(16) char arena_[kSharedBytes + kArenaBytes];
  const std::function<void()>* kernel_ = nullptr;
  int64_t block_ = 0;
  int count_ = 0, finished_ = 0;
  std::vector<Thread> threads_ = std::vector<Thread>(kMaxThreads);
  Thread* current_ = nullptr;
  Meeting whole_block_;
  std::vector<Meeting> warps_;
  jmp_buf scheduler_;
  char* stacks_ = static_cast<char*>(mmap(nullptr, size_t(kMaxThreads) * kStackBytes, PROT_READ | PROT_WRITE,
                                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
};

inline Device device;

inline void Device::live() {
  for (;;) {
    (*device.kernel_)();
    if (!device.current_->copies.empty()) device.fail_unawaited();
    device.current_->state = State::kFinished;
    ++device.finished_;
    device.leave();
  }
}

}  // namespace emulation
