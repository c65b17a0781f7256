// Everything our CUDA kernels ask of the machine: thread numbers, barriers, shuffles, memory, launches. No torch, no
// standard library. A kernel that uses nothing else can be run on a CPU by putting another cuda_prims.h in this one's
// place, which is how the tests execute the kernels where there is no GPU (tests/kernels/emulation).
//
// Rules for kernels: one-dimensional grids and blocks of whole warps; all global memory through read_global,
// write_global and copy_async, all shared memory through SHARED or SharedArena and what is below; no atomics.
//
// Layouts of matrices in the registers of a warp are those of the PTX ISA 9.2, sections 9.7.14.5.8 (fragments of
// mma.m16n8k16) and 9.7.14.5.15 to .17 (ldmatrix, stmatrix, movmatrix). With g = lane / 4 and q = lane % 4:
//   8x8 matrix of bf16    one register: (row g, columns 2q and 2q + 1)
//   A, 16x16, in four     the 8x8 matrices (rows 0-7, columns 0-7), (8-15, 0-7), (0-7, 8-15), (8-15, 8-15)
//   B, 16x8, in two       the transposes of its 8x8 matrices (rows 0-7), (8-15): (rows 2q and 2q + 1, column g)
//   D, 16x8, four floats  (row g, columns 2q and 2q + 1), (row g + 8, the same)
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
constexpr int kSharedBytes = 99 << 10;  // the most that a block may have on every device from sm_80 on

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

// Shared memory of a size that the launch gives: arrays one after the other, 16-byte aligned, uninitialised. All
// threads take the same ones, at the top of the kernel.
extern __shared__ uint4 arena_memory[];
class SharedArena {
 public:
  template <class T>
  DEVICE Shared<T> take(const char*, int count) {
    T* const taken = reinterpret_cast<T*>(arena_memory + used_);
    used_ += (count * int(sizeof(T)) + 15) / 16;
    return taken;
  }

 private:
  int used_ = 0;  // in units of 16 bytes
};
// What `count` numbers of T take in an arena.
template <class T>
constexpr int shared_bytes(int count) {
  return (count * int(sizeof(T)) + 15) / 16 * 16;
}

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
DEVICE uint32_t address(const void* shared) { return uint32_t(__cvta_generic_to_shared(shared)); }
}  // namespace detail

// Two bf16 in a register, the first in its lower half.
DEVICE uint32_t pack(float first, float second) {
  uint32_t result;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(second), "f"(first));
  return result;
}
DEVICE Pack<2> unpack(uint32_t x) { return {{__uint_as_float(x << 16), __uint_as_float(x & 0xffff0000u)}}; }

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

DEVICE void write_global(bf16* to, uint32_t pair) { *reinterpret_cast<uint32_t*>(to) = pair; }

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
DEVICE Pack<K> read_shared(Shared<bf16> from, int index) {
  return read_global<K>(from + index);
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
template <int K>
DEVICE void write_shared(Shared<bf16> to, int index, const Pack<K>& x) {
  write_global<K>(to + index, x);
}
DEVICE void write_shared(Shared<bf16> to, int index, uint32_t pair) { write_global(to + index, pair); }

// Starts to copy 16 bytes to shared memory, or zeros if not `real`. Both sides are aligned to 16 bytes; nobody may
// touch what it writes before the thread that copies has waited and a barrier has come.
template <class T>
DEVICE void copy_async(Shared<T> to, int index, const T* from, bool real) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(detail::address(to + index)), "l"(from),
               "r"(real ? 16 : 0)
               : "memory");
}
// The copies that this thread has started since its last call are a group.
DEVICE void end_group_of_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Until all but the last `groups` groups of this thread are there.
template <int groups>
DEVICE void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(groups) : "memory");
}

// Four 8x8 matrices of bf16. Lane l gives the place of row l % 8 of matrix l / 8: eight numbers, aligned to 16 bytes.
DEVICE void read_matrices(uint32_t (&to)[4], Shared<bf16> from, int index) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(detail::address(from + index))
               : "memory");
}
// The same, each of them transposed.
DEVICE void read_matrices_transposed(uint32_t (&to)[4], Shared<bf16> from, int index) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(detail::address(from + index))
               : "memory");
}
// An 8x8 matrix of bf16, transposed.
DEVICE uint32_t transpose_matrix(uint32_t x) {
  uint32_t result;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(result) : "r"(x));
  return result;
}
// d += a b, of 16x16 and 16x8 bf16, summed in float.
DEVICE void multiply_add(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
               "{%0, %1, %2, %3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Where a launch goes.
struct Queue {
  int device;
  void* stream;
};

// Starts kernel(arguments) on `blocks` blocks of `threads` threads, with an arena of `arena_bytes`; an error code of
// the CUDA runtime, 0 for none.
template <class... Parameters, class... Arguments>
int launch_with_arena(Queue queue, void (*kernel)(Parameters...), int64_t blocks, int threads, int arena_bytes,
                      const Arguments&... arguments) {
  if (const cudaError_t error = cudaSetDevice(queue.device)) return error;
  if (arena_bytes > 48 << 10)  // more has to be asked for
    if (const cudaError_t error = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                                       cudaFuncAttributeMaxDynamicSharedMemorySize, arena_bytes))
      return error;
  kernel<<<unsigned(blocks), threads, arena_bytes, static_cast<cudaStream_t>(queue.stream)>>>(arguments...);
  return cudaGetLastError();
}
template <class... Parameters, class... Arguments>
int launch(Queue queue, void (*kernel)(Parameters...), int64_t blocks, int threads, const Arguments&... arguments) {
  return launch_with_arena(queue, kernel, blocks, threads, 0, arguments...);
}
inline const char* error_text(int error) { return cudaGetErrorString(cudaError_t(error)); }

}  // namespace prims
