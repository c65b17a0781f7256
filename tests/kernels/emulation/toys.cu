// Small kernels, right and wrong, that the emulation is tested with. Each works on an array `data`; t is the thread,
// b the block.
#include "cuda_prims.h"

using namespace prims;

namespace {
DEVICE Pack<1> one(float x) { return {{x}}; }
DEVICE float get(Shared<float> x, int i, Where where = Where::current()) { return read_shared<1>(x, i, where)[0]; }
DEVICE void put(Shared<float> x, int i, float value, Where where = Where::current()) {
  write_shared<1>(x, i, one(value), where);
}
DEVICE float get(const float* x, int64_t i, Where where = Where::current()) {
  return read_global<1>(x + i, where)[0];
}
DEVICE void put(float* x, int64_t i, float value, Where where = Where::current()) {
  write_global<1>(x + i, one(value), where);
}

template <void (*toy)(float*, int, int)>
KERNEL(1024) void kernel(float* data) {
  toy(data, thread_index(), int(block_index()));
}
}  // namespace

// TOY(name) { body } is a kernel, and a function name(data, blocks, threads) that launches it.
#define TOY(name)                                                           \
  DEVICE void name##_toy(float* data, int t, int b);                        \
  extern "C" int name(float* data, int64_t blocks, int threads) {           \
    return launch({0, nullptr}, kernel<name##_toy>, blocks, threads, data); \
  }                                                                         \
  DEVICE void name##_toy([[maybe_unused]] float* data, [[maybe_unused]] int t, [[maybe_unused]] int b)

extern "C" const char* toy_error(int error) { return error_text(error); }

// Right, for 64 threads and 64 numbers.

TOY(mirror) {
  SHARED(float, x, 64);
  put(x, t, get(data, t));
  sync_block();
  put(data, t, get(x, 63 - t));
}
TOY(mirror_in_warps) {
  SHARED(float, x, 64);
  put(x, t, get(data, t));
  sync_warp();
  put(data, t, get(x, t ^ 31));
}
TOY(three_rounds) {
  SHARED(float, x, 64);
  for (int i = 0; i < 3; ++i) {
    put(x, t, get(data, t));
    sync_block();
    const float other = get(x, (t + 1) % 64);
    sync_block();
    put(data, t, other);
  }
}
TOY(sum_of_lanes) {
  float sum = get(data, t);
  for (int mask = 1; mask < 32; mask *= 2) sum += from_lane_xor(sum, mask);
  put(data, t, sum);
}
TOY(next_lane) { put(data, t, from_lane(get(data, t), (t + 1) % 32)); }
TOY(through_global) {
  put(data, t, float(t));
  sync_block();
  const float x = get(data, 63 - t);
  sync_block();
  put(data, t, x);
}
TOY(pairs_of_packs) {
  SHARED(float, x, 256);
  write_shared<4>(x, 4 * t, Pack<4>{{1, 2, 3, float(t)}});
  sync_block();
  if (t < 32) write_global<2>(data + 2 * t, read_shared<2>(x, 4 * t + 6));
}
TOY(arithmetic) {
  const float x = get(data, t);
  put(data, t, t < 20 ? prims::exp(x) : t < 40 ? prims::sqrt(x) : prims::fma(x, x, -1));
}
TOY(one_per_block) {
  if (t == 0) put(data, b, float(b));
}

// Shared memory.

TOY(no_barrier) {
  SHARED(float, x, 64);
  put(x, t, 1);
  get(x, t / 2);
}
TOY(no_barrier_before_reuse) {
  SHARED(float, x, 64);
  put(x, t, 1);
  sync_block();
  get(x, 0);
  if (t == 5) put(x, 0, 2);
}
TOY(barrier_of_the_warp) {
  SHARED(float, x, 64);
  put(x, t, 1);
  sync_warp();
  get(x, t / 2);
}
TOY(barrier_of_the_warp_before_reuse) {
  SHARED(float, x, 64);
  put(x, t, 1);
  sync_block();
  get(x, 0);
  sync_warp();
  if (t < 32) get(x, 0);  // the last to read is of the writer's warp
  sync_warp();
  if (t == 5) put(x, 0, 2);
}
TOY(shuffle_as_barrier) {
  SHARED(float, x, 64);
  put(x, t, 1);
  from_lane(0, 0);
  get(x, t ^ 1);
}
TOY(same_value) {
  SHARED(float, x, 1);
  put(x, 0, 1);
}
TOY(one_not_written) {
  SHARED(float, x, 64);
  if (t != 9) put(x, t, 1);
  sync_block();
  get(x, 63 - t);
}
TOY(of_another_block) {
  SHARED(float, x, 64);
  if (b == 0) put(x, t, 1);
  sync_block();
  get(x, t);
}
TOY(after_the_end) {
  SHARED(float, x, 64);
  write_shared<4>(x, 4 * t, {});
}
TOY(before_the_start) {
  SHARED(float, x, 64);
  put(x, t - 1, 1);
}
TOY(shared_not_aligned) {
  SHARED(float, x, 64);
  write_shared<2>(x, 2 * t + 1, {});
}
TOY(too_much) {
  SHARED(float, x, 12288);
  SHARED(float, y, 1);
  put(x, t, 1);
  put(y, t, 1);
}
TOY(declared_in_a_branch) {
  if (t == 0) {
    SHARED(float, x, 4);
    put(x, 0, 1);
  } else {
    SHARED(float, y, 4);
    put(y, 1, 1);
  }
}

// Global memory.

TOY(after_the_array) { get(data, t + 1); }
TOY(before_the_array) { get(data, t - 1); }
TOY(another_type) { write_global<1>(reinterpret_cast<bf16*>(data) + 2 * t, one(1)); }
TOY(global_not_aligned) { read_global<4>(data + t / 2); }
TOY(writes) { put(data, t, 1); }
TOY(global_no_barrier) {
  put(data, t, 1);
  get(data, t / 2);
}
TOY(blocks_write_one_place) {
  if (t == 0) put(data, 5, 1);
}
TOY(blocks_read_the_next_ones) {
  if (t != 0) return;
  put(data, b, 1);
  get(data, b + 1);
}
TOY(many_read_and_one_writes) {  // the block's own last reads, before a barrier, do not hide the other blocks' reads
  get(data, 7);
  sync_block();
  get(data, 7);
  sync_block();
  if (b == 2 && t == 40) put(data, 7, 1);
}

// Threads that do not meet.

TOY(half_at_a_barrier) {
  if (t < 32) sync_block();
}
TOY(one_left_before_a_shuffle) {
  if (t == 3) return;
  from_lane_xor(1, 1);
}
TOY(two_barriers) {
  if (t < 40) {
    sync_block();
  } else {
    sync_block();
  }
}
TOY(barrier_and_shuffle) {
  if (t < 16) sync_warp();
  from_lane_xor(1, 1);
}
TOY(barriers_in_a_loop) {
  for (int i = 0; i <= t / 32; ++i) sync_block();
}
TOY(lane_32) { from_lane_xor(1, 32); }
TOY(half_at_a_product) {
  float d[4] = {};
  if (t < 16) multiply_add(d, {}, 0, 0);
}

// Asynchronous copies. Right ones:

TOY(copied) {
  SHARED(float, x, 64);
  if (t < 16) copy_async(x, 4 * t, data + 4 * t, true);
  end_group_of_copies();
  wait_for_copies<0>();
  sync_block();
  put(data, t, get(x, 63 - t));
}
TOY(copied_in_groups) {  // the second group, then the first again while the second is used
  SHARED(float, x, 64);
  for (int half = 0; half < 2; ++half) {
    if (t < 8) copy_async(x, 32 * half + 4 * t, data + 32 * half + 4 * t, true);
    end_group_of_copies();
  }
  wait_for_copies<1>();
  sync_block();
  const float low = get(x, 31 - t % 32);
  wait_for_copies<0>();
  sync_block();
  put(data, t, t < 32 ? low : get(x, 95 - t));
}
TOY(zeros_copied) {
  SHARED(float, x, 64);
  if (t < 16) copy_async(x, 4 * t, data + 4 * t, t < 8);
  end_group_of_copies();
  wait_for_copies<0>();
  sync_block();
  put(data, t, get(x, t));
}

// Wrong ones:

TOY(copy_not_awaited) {
  SHARED(float, x, 64);
  if (t < 16) copy_async(x, 4 * t, data + 4 * t, true);
  end_group_of_copies();
  sync_block();
  get(x, t);
}
TOY(copy_that_ends_no_group) {
  SHARED(float, x, 64);
  if (t < 16) copy_async(x, 4 * t, data + 4 * t, true);
  wait_for_copies<0>();
  sync_block();
  get(x, t);
}
TOY(copy_of_the_last_group) {
  SHARED(float, x, 64);
  if (t < 16) copy_async(x, 4 * t, data + 4 * t, true);
  end_group_of_copies();
  wait_for_copies<1>();
  sync_block();
  get(x, t);
}
TOY(copy_used_by_its_own_thread) {
  SHARED(float, x, 64);
  copy_async(x, t % 16 * 4, data, t < 16);
  get(x, t);
}
TOY(copy_written_over) {
  SHARED(float, x, 64);
  if (t == 0) copy_async(x, 0, data, true);
  sync_block();
  if (t == 63) put(x, 0, 1);
}
TOY(copy_without_barrier) {
  SHARED(float, x, 64);
  put(x, t, 0);
  sync_block();
  if (t == 0) copy_async(x, 0, data, true);
  end_group_of_copies();
  wait_for_copies<0>();
  if (t == 1) get(x, 0);
}
TOY(copy_over_what_is_read) {
  SHARED(float, x, 64);
  put(x, t, 0);
  sync_block();
  if (t == 5) get(x, 0);
  if (t == 0) copy_async(x, 0, data, true);
  end_group_of_copies();
  wait_for_copies<0>();
}
TOY(copy_not_there_at_the_end) {
  SHARED(float, x, 64);
  if (t == 0) copy_async(x, 0, data, true);
  end_group_of_copies();
}
TOY(copy_not_aligned) {
  SHARED(float, x, 64);
  if (t == 0) copy_async(x, 2, data, true);
}
TOY(copy_from_outside) {
  SHARED(float, x, 64);
  if (t == 0) copy_async(x, 0, data + 64, true);
}
TOY(arena_too_small) {
  SharedArena arena;
  arena.take<float>("x", 4);
}
TOY(matrices_without_barrier) {
  SHARED(bf16, x, 256);
  write_shared<4>(x, 4 * t, {});
  uint32_t to[4];
  read_matrices(to, x, t % kWarp * 8);
}
TOY(matrices_not_aligned) {
  SHARED(bf16, x, 260);
  uint32_t to[4];
  read_matrices(to, x, t % kWarp * 8 + 4);
}

namespace {
KERNEL(32) void to_bf16_kernel(const float* from, bf16* to, float* back) {
  const int64_t i = (block_index() * kWarp + thread_index()) * 4;
  write_global<4>(to + i, read_global<4>(from + i));
  write_global<4>(back + i, read_global<4>(static_cast<const bf16*>(to) + i));
}
}  // namespace

// `count`, a multiple of 128, floats to bf16 and back.
extern "C" int to_bf16(const float* from, void* to, float* back, int64_t count) {
  return launch({0, nullptr}, to_bf16_kernel, count / 128, 32, from, static_cast<bf16*>(to), back);
}

// A program: a step for each thread of 64, [blocks, steps, threads], on a few numbers of memory of either kind.
namespace {
enum { kReads = 0, kWrites = 100, kSyncWarp = -1, kSyncBlock = -2 };  // the first two plus an index

KERNEL(64) void program_kernel(const int32_t* program, int64_t steps, float* data, bool shared) {
  SHARED(float, x, 8);
  const int t = thread_index();
  if (t == 0) write_shared<4>(x, 0, {}), write_shared<4>(x, 4, {});
  sync_block();
  for (int64_t i = 0; i < steps; ++i) {
    const int step = read_global(program + (block_index() * steps + i) * 64 + t);
    if (step == kSyncBlock) {
      sync_block();
    } else if (step == kSyncWarp) {
      sync_warp();
    } else if (step >= kWrites) {
      shared ? put(x, step - kWrites, 1) : put(data, step - kWrites, 1);
    } else {
      shared ? get(x, step - kReads) : get(data, step - kReads);
    }
  }
}
}  // namespace

extern "C" int run_program(const int32_t* program, int64_t blocks, int64_t steps, float* data, int shared) {
  return launch({0, nullptr}, program_kernel, blocks, 64, program, steps, data, shared != 0);
}

// What a lane's registers hold: of a, b and d [32, 4 | 2 | 4]; of four 8x8 matrices read plainly, read transposed, and of
// the first of them read plainly and then transposed [32, 9, 2].
namespace {
KERNEL(32) void product_kernel(const int32_t* a, const int32_t* b, float* d) {
  const int lane = thread_index();
  uint32_t left[4], right[2];
  for (int i = 0; i < 4; ++i) left[i] = uint32_t(read_global(a + 4 * lane + i));
  for (int i = 0; i < 2; ++i) right[i] = uint32_t(read_global(b + 2 * lane + i));
  const Pack<4> before = read_global<4>(d + 4 * lane);
  float sums[4] = {before[0], before[1], before[2], before[3]};
  multiply_add(sums, left, right[0], right[1]);
  write_global<4>(d + 4 * lane, Pack<4>{{sums[0], sums[1], sums[2], sums[3]}});
}
KERNEL(32) void matrices_kernel(const bf16* from, bf16* to) {
  SharedArena arena;
  const Shared<bf16> x = arena.take<bf16>("x", 256);
  const int lane = thread_index();
  copy_async(x, 8 * lane, from + 8 * lane, true);
  end_group_of_copies();
  wait_for_copies<0>();
  sync_warp();
  uint32_t plain[4], turned[4];
  read_matrices(plain, x, 8 * lane);
  read_matrices_transposed(turned, x, 8 * lane);
  for (int i = 0; i < 4; ++i) write_global(to + 18 * lane + 2 * i, plain[i]);
  for (int i = 0; i < 4; ++i) write_global(to + 18 * lane + 8 + 2 * i, turned[i]);
  write_global(to + 18 * lane + 16, transpose_matrix(plain[0]));
}
}  // namespace

extern "C" int product(const int32_t* a, const int32_t* b, float* d) {
  return launch({0, nullptr}, product_kernel, 1, 32, a, b, d);
}
extern "C" int matrices(const void* from, void* to) {
  return launch_with_arena({0, nullptr}, matrices_kernel, 1, 32, shared_bytes<bf16>(256), static_cast<const bf16*>(from),
                           static_cast<bf16*>(to));
}
