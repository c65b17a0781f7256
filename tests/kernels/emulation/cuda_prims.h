// csrc/cuda_prims.h for a CPU: the same names, so that a .cu file compiles with a C++ compiler, runs, and is watched.
//
// A launch runs its whole grid before it returns. It ends with an error code, and error_text has a sentence with the
// line, block, thread, buffer and index, if the kernel
//   - touches memory that it may not: outside a SHARED array; global memory outside the allocations that the test has
//     named (emulation_allow), or of another type; a write where only reads are allowed; a pack that is not aligned;
//   - reads shared memory that its block has not written;
//   - has a race: two threads touch the same number, one of them writes, and no barrier orders the two. Between blocks
//     nothing does, and shuffles order no memory;
//   - diverges: a barrier or a shuffle is not reached by all its threads in the same statement, or some have finished;
//   - declares more than 48 KiB of shared memory, or is launched with a size that no device takes.
// Threads are resumed in an order that emulation_schedule chooses; a right kernel gives the same bits in all.
//
// What this does not show: anything about time (bank conflicts, coalescing, occupancy), registers and spills, launch
// bounds, how warps are really scheduled, what barriers do after some threads of a warp have left the kernel, the
// contraction of products and sums by the compiler, the last digits of the device's exp.
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
};

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

template <int K>
Pack<K> read_shared(Shared<float> from, int index, Where where = Where::current()) {
  static_assert(detail::is_word<K, float>);
  device.use_shared(*from.memory, index, K, false, where);
  Pack<K> result;
  memcpy(result.x, from.memory->begin + index * sizeof(float), sizeof result.x);
  return result;
}
template <int K>
void write_shared(Shared<float> to, int index, const Pack<K>& x, Where where = Where::current()) {
  static_assert(detail::is_word<K, float>);
  device.use_shared(*to.memory, index, K, true, where);
  memcpy(to.memory->begin + index * sizeof(float), x.x, sizeof x.x);
}

struct Queue {
  int device;
  void* stream;
};

template <class... Parameters, class... Arguments>
int launch(Queue, void (*kernel)(Parameters...), int64_t blocks, int threads, const Arguments&... arguments) {
  return device.launch(blocks, threads, [&] { kernel(arguments...); });
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
