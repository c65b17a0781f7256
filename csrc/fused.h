// The small operators of a layer, each in one pass over memory, with their gradients. Plain pointers in, plain pointers
// out, no torch and no CUDA headers. Rows are tokens, M = samples times T of them, one sample after the other.
//
//   shift mix   with x' the row before x's, zeros before a sample's first: out_i = x + (x' - x) mix_i
//
//     dx = sum_i dout_i (1 - mix_i), and the next row's sum_i dout_i mix_i       dmix_i = sum over rows of dout_i (x' - x)
//
//   keys        in each head, with z = k k_k, norm = max(|z|, kNormFloor), u = z / norm:
//               forget = -u       relearn = u rate       learn = k (1 + (rate - 1) k_a)
//
//     du = rate drelearn - dforget       dz = (du - u sum(du u)) / norm, without the second term where norm is the floor
//     dk = k_k dz + dlearn (1 + (rate - 1) k_a)            drate = u drelearn + k k_a dlearn
//     dk_k, dk_a = sums over rows of k dz, k (rate - 1) dlearn
//
//   readout     in each head, with n = (y - mean(y)) / sqrt(var(y) + eps), bonus = sum(r k r_k):
//               s = n weight + bias + bonus v       out = s gate
//
//     ds = gate dout       dgate = s dout       dv = bonus ds       dbonus = sum(ds v)       dn = weight ds
//     dy = (dn - mean(dn) - n mean(dn n)) / sqrt(var(y) + eps)       dr = dbonus k r_k       dk = dbonus r r_k
//     dr_k, dweight, dbias = sums over rows of dbonus r k, n ds, ds
//
//   squared relu   y = max(x, 0)^2       dx = 2 max(x, 0) dy
//
// `io` is the type of the rows: float, double or bf16, and void where a flag says which. Arithmetic, and what belongs to
// channels and not to rows, is float, beside double double. Beside bf16 the values are those of a chain of operators on
// bf16, rounded after each link: x' - x, mix_i; r_k, r k, r k r_k, bonus, bonus v, n weight + bias, s. Rows are
// contiguous [M, C], C = H heads of N, N in 8, 16, 32, 64, 128; channels are contiguous [C].
#pragma once

#include <stdint.h>

namespace fused {

constexpr double kNormFloor = 1e-12;
constexpr int kMostMixes = 6;

struct bf16 {
  uint16_t bits;
};

template <class io>
struct Arithmetic {
  using type = float;
};
template <>
struct Arithmetic<double> {
  using type = double;
};
template <class io>
using scalar_of = typename Arithmetic<io>::type;

// Sums over rows are made of the sums over chunks of so many: in one order, whoever computes which chunk.
constexpr int64_t kChunk = 16;
inline int64_t num_chunks(int64_t M) { return (M + kChunk - 1) / kChunk; }

template <class io>
struct ShiftMix {
  int64_t M, C, T;
  int64_t mixes;
  const io* x;
  const scalar_of<io>* mix[kMostMixes];
};
template <class io>
struct ShiftMixOutputs {
  io* out[kMostMixes];
};
template <class io>
struct ShiftMixGradients {
  const io* dout[kMostMixes];
  io* dx;
  scalar_of<io>* sums;  // [chunks, mixes, C]: dmix_i
};

template <class io>
struct Keys {
  int64_t M, C, N;
  const io *k, *rate;
  const scalar_of<io>*k_k, *k_a;
};
template <class io>
struct KeysOutputs {
  io *forget, *relearn, *learn;
};
template <class io>
struct KeysGradients {
  const io *dforget, *drelearn, *dlearn;
  io *dk, *drate;
  scalar_of<io>* sums;  // [chunks, 2, C]: dk_k, dk_a
};

template <class io>
struct Readout {
  int64_t M, C, N;
  scalar_of<io> eps;
  const io *y, *r, *k, *v, *gate;
  const scalar_of<io>*r_k, *weight, *bias;
};
template <class io>
struct ReadoutOutputs {
  io* out;
};
template <class io>
struct ReadoutGradients {
  const io* dout;
  io *dy, *dr, *dk, *dv, *dgate;
  scalar_of<io>* sums;  // [chunks, 3, C]: dr_k, dweight, dbias
};

template <class io>
struct SquaredRelu {
  int64_t M, C;
  const io* x;
};
template <class io>
struct SquaredReluOutputs {
  io* y;
};
template <class io>
struct SquaredReluGradients {
  const io* dy;
  io* dx;
};

// On a CPU: the rows [begin, end), or the chunks where there are sums, and nothing else, each the same whatever the range.
template <class io>
struct Kernels {
  void (*shift_mix)(const ShiftMix<io>&, const ShiftMixOutputs<io>&, int64_t begin, int64_t end);
  void (*shift_mix_backward)(const ShiftMix<io>&, const ShiftMixGradients<io>&, int64_t begin, int64_t end);
  void (*keys)(const Keys<io>&, const KeysOutputs<io>&, int64_t begin, int64_t end);
  void (*keys_backward)(const Keys<io>&, const KeysGradients<io>&, int64_t begin, int64_t end);
  void (*readout)(const Readout<io>&, const ReadoutOutputs<io>&, int64_t begin, int64_t end);
  void (*readout_backward)(const Readout<io>&, const ReadoutGradients<io>&, int64_t begin, int64_t end);
  void (*squared_relu)(const SquaredRelu<io>&, const SquaredReluOutputs<io>&, int64_t begin, int64_t end);
  void (*squared_relu_backward)(const SquaredRelu<io>&, const SquaredReluGradients<io>&, int64_t begin, int64_t end);
};
struct AllKernels {
  Kernels<float> floats;
  Kernels<double> doubles;
  Kernels<bf16> bf16s;
};
// One set for each instruction set that fused_cpu.cpp was compiled for.
namespace generic {
extern const AllKernels kernels;
}
namespace avx2 {
extern const AllKernels kernels;
}

}  // namespace fused

// On a GPU: rows are bf16 or float, pointers are the device's and aligned to 16 bytes. `total` [count, C] are the sums over
// all chunks. The calls return as soon as the work is queued on the stream: 0, or an error that fused_cuda_error puts into
// words.
struct FusedCudaLaunch {
  bool bf16;
  int device;
  void* stream;
};
extern "C" {
int fused_cuda_shift_mix(const FusedCudaLaunch*, const fused::ShiftMix<void>*, const fused::ShiftMixOutputs<void>*);
int fused_cuda_shift_mix_backward(const FusedCudaLaunch*, const fused::ShiftMix<void>*,
                                  const fused::ShiftMixGradients<void>*, float* total);
int fused_cuda_keys(const FusedCudaLaunch*, const fused::Keys<void>*, const fused::KeysOutputs<void>*);
int fused_cuda_keys_backward(const FusedCudaLaunch*, const fused::Keys<void>*, const fused::KeysGradients<void>*,
                             float* total);
int fused_cuda_readout(const FusedCudaLaunch*, const fused::Readout<void>*, const fused::ReadoutOutputs<void>*);
int fused_cuda_readout_backward(const FusedCudaLaunch*, const fused::Readout<void>*,
                                const fused::ReadoutGradients<void>*, float* total);
int fused_cuda_squared_relu(const FusedCudaLaunch*, const fused::SquaredRelu<void>*,
                            const fused::SquaredReluOutputs<void>*);
int fused_cuda_squared_relu_backward(const FusedCudaLaunch*, const fused::SquaredRelu<void>*,
                                     const fused::SquaredReluGradients<void>*);
const char* fused_cuda_error(int error);
}
