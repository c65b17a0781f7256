// Everything our CUDA kernels ask of the machine: thread numbers, barriers, shuffles, memory, launches. No torch, no
// standard library. A kernel that uses nothing else can be run on a CPU by putting another cuda_prims.h in this one's
// place, which is how the tests execute the kernels where there is no GPU (tests/kernels/emulation).
//
// Rules for kernels: one-dimensional grids and blocks of whole warps; all global memory through read_global and
// write_global, all shared memory through SHARED, read_shared and write_shared; no atomics.
#pragma once

#include <cuda_runtime.h>
#include <stdint.h>

#define DEVICE __device__ __forceinline__
// Defines a kernel: `template <...> KERNEL(threads, blocks) void name(arguments) { ... }`, with the threads of a block
// and the number of blocks that the registers of one multiprocessor shall hold at a time.
#define KERNEL(threads, blocks) __global__ __launch_bounds__(threads, blocks)
#define UNROLL _Pragma("unroll")
// Memory of the block, 16-byte aligned, uninitialised. At the top of a kernel, never in a branch.
#define SHARED(T, name, count) \
  __shared__ __align__(16) T name##_memory[count]; \
  prims::Shared<T> const name = name##_memory

namespace prims {

constexpr int kWarp = 32;

struct bf16 {
  uint16_t bits;
};

// K consecutive numbers, as floats; in memory they are aligned to min(16, K * sizeof) bytes.
template <int K>
struct Pack {
  float x[K];
  DEVICE float& operator[](int i) { return x[i]; }
  DEVICE float operator[](int i) const { return x[i]; }
};

template <class T>
using Shared = T*;

DEVICE int thread_index() { return int(threadIdx.x); }
DEVICE int64_t block_index() { return blockIdx.x; }

// All threads of the block reach it; what they wrote before is seen by all after.
DEVICE void sync_block() { __syncthreads(); }
// The same for the threads of a warp, and their shared memory.
DEVICE void sync_warp() { __syncwarp(); }

// The value that the lane with the number lane ^ mask, or `lane`, passes. All threads of the warp call it together.
DEVICE float from_lane_xor(float x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }
DEVICE float from_lane(float x, int lane) { return __shfl_sync(0xffffffffu, x, lane); }

DEVICE float fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }
DEVICE float exp(float x) { return ::expf(x); }
DEVICE float sqrt(float x) { return __fsqrt_rn(x); }

namespace detail {
template <int bytes>
struct Word;
template <>
struct Word<2> {
  using type = unsigned short;
};
template <>
struct Word<4> {
  using type = unsigned int;
};
template <>
struct Word<8> {
  using type = uint2;
};
template <>
struct Word<16> {
  using type = uint4;
};
DEVICE float to_float(float x) { return x; }
DEVICE float to_float(bf16 x) { return __uint_as_float(uint32_t(x.bits) << 16); }
DEVICE void from_float(float& to, float x) { to = x; }
DEVICE void from_float(bf16& to, float x) { asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(to.bits) : "f"(x)); }
}  // namespace detail

// T is float or bf16. What a kernel reads is never written while it runs by another block.
template <int K, class T>
DEVICE Pack<K> read_global(const T* from) {
  using Word = typename detail::Word<K * sizeof(T)>::type;
  union {
    Word word;
    T item[K];
  };
  word = *reinterpret_cast<const Word*>(from);
  Pack<K> result;
  UNROLL for (int i = 0; i < K; ++i) result[i] = detail::to_float(item[i]);
  return result;
}
template <int K, class T>
DEVICE void write_global(T* to, const Pack<K>& x) {
  using Word = typename detail::Word<K * sizeof(T)>::type;
  union {
    Word word;
    T item[K];
  };
  UNROLL for (int i = 0; i < K; ++i) detail::from_float(item[i], x[i]);
  *reinterpret_cast<Word*>(to) = word;
}
DEVICE int32_t read_global(const int32_t* from) { return *from; }

template <int K>
DEVICE Pack<K> read_shared(Shared<float> from, int index) {
  using Word = typename detail::Word<K * sizeof(float)>::type;
  union {
    Word word;
    Pack<K> pack;
  };
  word = *reinterpret_cast<const Word*>(from + index);
  return pack;
}
template <int K>
DEVICE void write_shared(Shared<float> to, int index, const Pack<K>& x) {
  using Word = typename detail::Word<K * sizeof(float)>::type;
  union {
    Word word;
    Pack<K> pack;
  };
  pack = x;
  *reinterpret_cast<Word*>(to + index) = word;
}

// Where a launch goes.
struct Queue {
  int device;
  void* stream;
};

// Starts kernel(arguments) on `blocks` blocks of `threads` threads; an error code of the CUDA runtime, 0 for none.
template <class... Parameters, class... Arguments>
int launch(Queue queue, void (*kernel)(Parameters...), int64_t blocks, int threads, const Arguments&... arguments) {
  if (const cudaError_t error = cudaSetDevice(queue.device)) return error;
  kernel<<<unsigned(blocks), threads, 0, static_cast<cudaStream_t>(queue.stream)>>>(arguments...);
  return cudaGetLastError();
}
inline const char* error_text(int error) { return cudaGetErrorString(cudaError_t(error)); }

}  // namespace prims
