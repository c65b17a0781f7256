// The WKV7 operator on a CPU: plain pointers in, plain pointers out, no torch.
//
// Tensors r..b, y and their gradients are contiguous [B,T,H,N]; states are contiguous [B,H,N,N], rows = value index,
// columns = key index. A head is one of the B*H independent recurrences, numbered b * H + h. A call computes the heads
// [begin, end) and nothing else, each one the same whatever the range: the caller may split the work as it likes.
#pragma once

#include <cstdint>

namespace wkv7 {

// Tokens between two saved states. The backward pass replays the forward one from them instead of undoing tokens,
// which would divide by the decay. The state before token 0 is not saved: it is s0.
constexpr int64_t kCheckpointEvery = 32;

inline int64_t num_checkpoints(int64_t T) { return (T - 1) / kCheckpointEvery; }

template <class scalar>
struct Inputs {
  int64_t T, H;
  bool sigmoid;  // which decay w stands for
  const scalar *r, *w, *k, *v, *a, *b;
  const scalar* s0;  // or null: zeros
  const int64_t* p;  // [B], or null: nothing is captured
};

template <class scalar>
struct Outputs {
  scalar* y;
  scalar* cap;          // null if and only if p is
  scalar* final_state;  // or null
  scalar* checkpoints;  // [B*H, num_checkpoints(T), N, N] in the kernel's own layout, or null
};

template <class scalar>
struct Gradients {
  const scalar *dy, *dcap, *dfinal;  // each or null: zeros
  const scalar* checkpoints;
  scalar *dr, *dw, *dk, *dv, *da, *db;
  scalar* ds0;  // or null
};

template <class scalar>
struct Kernels {
  // Return false for a head size N there is no kernel for.
  bool (*forward)(int64_t N, const Inputs<scalar>&, const Outputs<scalar>&, int64_t begin, int64_t end);
  bool (*backward)(int64_t N, const Inputs<scalar>&, const Gradients<scalar>&, int64_t begin, int64_t end);
};

// One set for each instruction set that wkv7_cpu.cpp was compiled for.
#define WKV7_DECLARE(isa)               \
  namespace isa {                       \
  extern const Kernels<float> floats;   \
  extern const Kernels<double> doubles; \
  }
WKV7_DECLARE(generic)
WKV7_DECLARE(avx2)
WKV7_DECLARE(avx512)
#undef WKV7_DECLARE

}  // namespace wkv7
