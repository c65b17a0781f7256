// Future-Seed preparation, fused: from the state C that a layer leaves to the state that the next one starts from, with
// one gate m a head. Plain pointers in, plain pointers out, no torch and no CUDA headers.
//
//   rms = max(sqrt(mean(C^2)), kRmsFloor)     C^ = C / rms if `norm`, else C      seed = clamp(m C^, -clip, clip)
//
//   dz = dseed where -clip <= m C^ <= clip, else 0        dm = sum(dz C^)          dC^ = m dz
//   dC = (dC^ - C^ mean(dC^ C^)) / rms, without the second term where rms is at its floor; dC^ if not `norm`
//
// All matrices are contiguous [heads, N, N], gates contiguous [heads]; a head is one of the B*H matrices.
#pragma once

#include <stdint.h>

namespace future_seed {

constexpr double kRmsFloor = 1e-6;

template <class scalar>
struct Inputs {
  int64_t heads, N;
  const scalar *captured, *gate;
  scalar clip;  // infinity for no clipping
  bool norm;
};

// What has no use is null: it is not computed.
template <class scalar>
struct Gradients {
  scalar *dcaptured, *dgate;
};

// On a CPU, for float and double: the heads [begin, end) and nothing else, each one the same whatever the range. N is a
// multiple of 8.
template <class scalar>
void forward(const Inputs<scalar>&, scalar* seed, int64_t begin, int64_t end);
template <class scalar>
void backward(const Inputs<scalar>&, const scalar* dseed, const Gradients<scalar>&, int64_t begin, int64_t end);

}  // namespace future_seed

// On a GPU: N is 8, 16, 32, 64 or 128, pointers are the device's and aligned to 16 bytes. The calls return as soon as
// the work is queued on the stream: 0, or an error that future_seed_cuda_error puts into words.
extern "C" {
int future_seed_cuda_forward(const future_seed::Inputs<float>*, float* seed, int device, void* stream);
int future_seed_cuda_backward(const future_seed::Inputs<float>*, const float* dseed,
                              const future_seed::Gradients<float>*, int device, void* stream);
const char* future_seed_cuda_error(int error);
}
