// csrc/cuda_prims.h for a CPU: the same names, so that a .cu file compiles with a C++ compiler, runs, and is watched.
//
// A launch runs its whole grid before it returns. It ends with an error code, and error_text has a sentence with the
// line, block, thread, buffer and index, if the kernel
//   - touches memory that it may not: outside a SHARED array; global memory outside the allocations that the test has
//     named (emulation_allow), or of another type; a write where only reads are allowed; a pack that is not aligned;
//   - reads shared memory that its block has not written;
//   - has a race: two threads touch the same number, one of them writes, and no barrier orders the two. Between blocks
//     nothing does, and shuffles order no memory;
//   - touches shared memory that an asynchronous copy is on its way to, or ends before its copies have. A copy writes
//     twice: when it starts, which must be ordered after all uses before, and when its thread has waited for it, which
//     other threads see after a barrier. In between the memory holds NaN;
//   - diverges: a barrier, a shuffle or an operation on matrices is not reached by all its threads in the same
//     statement, or some have finished;
//   - declares more than 48 KiB of shared memory or takes more than its launch gave it, or is launched with a size that
//     no device takes.
// Threads are resumed in an order that emulation_schedule chooses; a right kernel gives the same bits in all.
//
// What this does not show: anything about time (bank conflicts, coalescing, occupancy, how long a copy takes),
// registers and spills, launch bounds, how warps are really scheduled, what barriers do after some threads of a warp
// have left the kernel, the contraction of products and sums by the compiler, the last digits of the device's exp, and
// in which order and with how many bits beyond float's a matrix unit adds up: here one product after the other, rounded
// to float each time.
#pragma once

#include <cmath>
#include <cstring>

#include "device.h"

#define DEVICE inline
#define KERNEL(...)
#define UNROLL
#define SHARED(T, name, count) const prims::Shared<T> name(#name, count)

namespace prims {

using emulation::device;
using emulation::Where;

constexpr int kWarp = emulation::kLanes;
constexpr int kSharedBytes = emulation::kArenaBytes;

struct bf16 {
  uint16_t bits;
};

template <int K>
struct Pack {
  float x[K];
  float& operator[](int i) { return x[i]; }
  float operator[](int i) const { return x[i]; }
};

template <class T>
struct Shared {
  emulation::Memory* memory;
  Shared(const char* name, int count, Where where = Where::current())
      : memory(device.declare_shared(name, count, sizeof(T), where)) {}
  explicit Shared(emulation::Memory* memory) : memory(memory) {}
};

class SharedArena {
 public:
  template <class T>
  Shared<T> take(const char* name, int count, Where where = Where::current()) {
    return Shared<T>(device.take_shared(name, count, sizeof(T), where));
  }
};
template <class T>
constexpr int shared_bytes(int count) {
  return (count * int(sizeof(T)) + 15) / 16 * 16;
}

inline int thread_index() { return device.thread_index(); }
inline int64_t block_index() { return device.block_index(); }

inline void sync_block(Where where = Where::current()) { device.sync_block(where); }
inline void sync_warp(Where where = Where::current()) { device.sync_warp(where); }

inline float from_lane_xor(float x, int mask, Where where = Where::current()) {
  return device.shuffle(x, (thread_index() % kWarp) ^ mask, where);
}
inline float from_lane(float x, int lane, Where where = Where::current()) { return device.shuffle(x, lane, where); }

inline float fma(float a, float b, float c) { return std::fma(a, b, c); }
inline float exp(float x) { return std::exp(x); }
inline float sqrt(float x) { return std::sqrt(x); }

namespace detail {
inline float to_float(float x) { return x; }
inline float to_float(bf16 x) {
  const uint32_t bits = uint32_t(x.bits) << 16;
  float result;
  memcpy(&result, &bits, sizeof result);
  return result;
}
inline void from_float(float& to, float x) { to = x; }
inline void from_float(bf16& to, float x) {  // to nearest, ties to even
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  to.bits = std::isnan(x) ? 0x7fff : uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
template <int K, class T>
constexpr bool is_word = K * sizeof(T) == 2 || K * sizeof(T) == 4 || K * sizeof(T) == 8 || K * sizeof(T) == 16;
}  // namespace detail

template <int K, class T>
Pack<K> read_global(const T* from, Where where = Where::current()) {
  static_assert(detail::is_word<K, T>);
  device.use_global(from, K, sizeof(T), false, where);
  Pack<K> result;
  for (int i = 0; i < K; ++i) result[i] = detail::to_float(from[i]);
  return result;
}
template <int K, class T>
void write_global(T* to, const Pack<K>& x, Where where = Where::current()) {
  static_assert(detail::is_word<K, T>);
  device.use_global(to, K, sizeof(T), true, where);
  for (int i = 0; i < K; ++i) detail::from_float(to[i], x[i]);
}
inline int32_t read_global(const int32_t* from, Where where = Where::current()) {
  device.use_global(from, 1, sizeof(int32_t), false, where);
  return *from;
}

inline uint32_t pack(float first, float second) {
  bf16 x, y;
  detail::from_float(x, first);
  detail::from_float(y, second);
  return x.bits | uint32_t(y.bits) << 16;
}
inline Pack<2> unpack(uint32_t x) {
  return {{detail::to_float(bf16{uint16_t(x)}), detail::to_float(bf16{uint16_t(x >> 16)})}};
}
inline void write_global(bf16* to, uint32_t pair, Where where = Where::current()) {
  write_global<2>(to, unpack(pair), where);
}

template <int K, class T>
Pack<K> read_shared(Shared<T> from, int index, Where where = Where::current()) {
  static_assert(detail::is_word<K, T>);
  device.use_shared(*from.memory, index, K, false, where);
  Pack<K> result;
  for (int i = 0; i < K; ++i) result[i] = detail::to_float(reinterpret_cast<T*>(from.memory->begin)[index + i]);
  return result;
}
template <int K, class T>
void write_shared(Shared<T> to, int index, const Pack<K>& x, Where where = Where::current()) {
  static_assert(detail::is_word<K, T>);
  device.use_shared(*to.memory, index, K, true, where);
  for (int i = 0; i < K; ++i) detail::from_float(reinterpret_cast<T*>(to.memory->begin)[index + i], x[i]);
}
inline void write_shared(Shared<bf16> to, int index, uint32_t pair, Where where = Where::current()) {
  write_shared<2>(to, index, unpack(pair), where);
}

template <class T>
void copy_async(Shared<T> to, int index, const T* from, bool real, Where where = Where::current()) {
  constexpr int count = 16 / sizeof(T);
  if (real) device.use_global(from, count, sizeof(T), false, where);
  device.start_copy(*to.memory, index, count, real ? from : nullptr, where);
}
inline void end_group_of_copies() { device.end_group_of_copies(); }
template <int groups>
void wait_for_copies(Where where = Where::current()) {
  device.wait_for_copies(groups, where);
}

// Operations on matrices: each lane says what it has, the last to come computes for all. Layouts: see the other
// cuda_prims.h; (matrix, row, column) of what register `register_` of a lane holds in its half `half`.
namespace detail {
struct Place {
  int row, column;
};
constexpr Place in_matrix(int lane, int half) { return {lane / 4, lane % 4 * 2 + half}; }
constexpr Place in_a(int lane, int register_, int half) {
  const Place at = in_matrix(lane, half);
  return {at.row + register_ % 2 * 8, at.column + register_ / 2 * 8};
}
constexpr Place in_b(int lane, int register_, int half) {
  const Place transposed = in_matrix(lane, half);
  return {transposed.column + register_ * 8, transposed.row};
}
constexpr Place in_d(int lane, int register_) {
  const Place at = in_matrix(lane, register_ % 2);
  return {at.row + register_ / 2 * 8, at.column};
}

struct MatrixRead {
  const uint16_t* row;
  bool transposed;
  uint32_t* to;
  static void act(void* const* all) {
    const auto lane_of = [&](int lane) { return static_cast<const MatrixRead*>(all[lane]); };
    for (int lane = 0; lane < kWarp; ++lane)
      for (int matrix = 0; matrix < 4; ++matrix) {
        uint32_t both = 0;
        for (int half = 0; half < 2; ++half) {
          const Place at = in_matrix(lane, half);
          const int row = lane_of(lane)->transposed ? at.column : at.row;
          const int column = lane_of(lane)->transposed ? at.row : at.column;
          both |= uint32_t(lane_of(8 * matrix + row)->row[column]) << 16 * half;
        }
        lane_of(lane)->to[matrix] = both;
      }
  }
};
struct MatrixTransposition {
  uint32_t given, taken;
  static void act(void* const* all) {
    uint16_t x[8][8];
    for (int lane = 0; lane < kWarp; ++lane)
      for (int half = 0; half < 2; ++half) {
        const Place at = in_matrix(lane, half);
        x[at.row][at.column] = uint16_t(static_cast<MatrixTransposition*>(all[lane])->given >> 16 * half);
      }
    for (int lane = 0; lane < kWarp; ++lane) {
      const Place first = in_matrix(lane, 0), second = in_matrix(lane, 1);
      static_cast<MatrixTransposition*>(all[lane])->taken =
          x[first.column][first.row] | uint32_t(x[second.column][second.row]) << 16;
    }
  }
};
struct MatrixProduct {
  float* d;
  const uint32_t* a;
  uint32_t b[2];
  [[gnu::optimize("O3")]] static void act(void* const* all) {
    float a[16][16], b[16][8], d[16][8];
    for (int lane = 0; lane < kWarp; ++lane) {
      const auto* x = static_cast<const MatrixProduct*>(all[lane]);
      for (int half = 0; half < 2; ++half) {
        for (int i = 0; i < 4; ++i) {
          const Place at = in_a(lane, i, half);
          a[at.row][at.column] = to_float(bf16{uint16_t(x->a[i] >> 16 * half)});
        }
        for (int i = 0; i < 2; ++i) {
          const Place at = in_b(lane, i, half);
          b[at.row][at.column] = to_float(bf16{uint16_t(x->b[i] >> 16 * half)});
        }
      }
      for (int i = 0; i < 4; ++i) {
        const Place at = in_d(lane, i);
        d[at.row][at.column] = x->d[i];
      }
    }
    for (int i = 0; i < 16; ++i)
      for (int k = 0; k < 16; ++k)
        for (int j = 0; j < 8; ++j) d[i][j] += a[i][k] * b[k][j];
    for (int lane = 0; lane < kWarp; ++lane)
      for (int i = 0; i < 4; ++i) {
        const Place at = in_d(lane, i);
        static_cast<const MatrixProduct*>(all[lane])->d[i] = d[at.row][at.column];
      }
  }
};
inline void read_matrices(uint32_t* to, Shared<bf16> from, int index, bool transposed, Where where) {
  device.use_shared(*from.memory, index, 8, false, where);
  MatrixRead mine = {reinterpret_cast<const uint16_t*>(from.memory->begin) + index, transposed, to};
  device.together(&mine, MatrixRead::act, "read_matrices", where);
}
}  // namespace detail

inline void read_matrices(uint32_t (&to)[4], Shared<bf16> from, int index, Where where = Where::current()) {
  detail::read_matrices(to, from, index, false, where);
}
inline void read_matrices_transposed(uint32_t (&to)[4], Shared<bf16> from, int index, Where where = Where::current()) {
  detail::read_matrices(to, from, index, true, where);
}
inline uint32_t transpose_matrix(uint32_t x, Where where = Where::current()) {
  detail::MatrixTransposition mine = {x, 0};
  device.together(&mine, detail::MatrixTransposition::act, "transpose_matrix", where);
  return mine.taken;
}
inline void multiply_add(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                         Where where = Where::current()) {
  detail::MatrixProduct mine = {d, a, {b0, b1}};
  device.together(&mine, detail::MatrixProduct::act, "multiply_add", where);
}

struct Queue {
  int device;
  void* stream;
};

template <class... Parameters, class... Arguments>
int launch_with_arena(Queue, void (*kernel)(Parameters...), int64_t blocks, int threads, int arena_bytes,
                      const Arguments&... arguments) {
  return device.launch(blocks, threads, arena_bytes, [&] { kernel(arguments...); });
}
template <class... Parameters, class... Arguments>
int launch(Queue queue, void (*kernel)(Parameters...), int64_t blocks, int threads, const Arguments&... arguments) {
  return launch_with_arena(queue, kernel, blocks, threads, 0, arguments...);
}
inline const char* error_text(int error) {
  return error == 0                           ? "no error"
         : error == emulation::kLaunchFailure ? device.fault.c_str()
                                              : "invalid argument";
}

}  // namespace prims

// What the tests call.
extern "C" {
// Kernels may read the `count` numbers of `item_bytes` from `begin` on, and write them if `writable`.
[[gnu::used]] inline void emulation_allow(const char* name, void* begin, int64_t count, int item_bytes, int writable) {
  emulation::device.allow(name, begin, count, item_bytes, writable);
}
[[gnu::used]] inline void emulation_forget_all() { emulation::device.forget_all(); }
[[gnu::used]] inline void emulation_schedule(uint64_t schedule) { emulation::device.schedule = schedule; }
}
