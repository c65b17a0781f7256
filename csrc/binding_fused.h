// What the bindings of the operators of csrc/fused.h share: the tensors of a call, and its run on either device.
#pragma once

#include "binding.h"

#include <ATen/Parallel.h>
#include <ATen/Version.h>

#include <algorithm>

#include "fused.h"

namespace binding {

// Says which type the rows of a call have: float, double, fused::bf16, or void for whatever a GPU takes.
template <class T>
struct Rows {
  using io = T;
};

template <class io>
const io* rows_in(const Tensor& x) {
  return static_cast<const io*>(x.const_data_ptr());
}
template <class io>
io* rows_out(const Tensor& x) {
  return static_cast<io*>(x.mutable_data_ptr());
}
template <class io>
const fused::scalar_of<io>* channels_in(const Tensor& x) {
  return x.const_data_ptr<fused::scalar_of<io>>();
}

template <class io>
const fused::Kernels<io>& cpu_kernels() {
#if defined(__x86_64__)
  static const bool wide = at::get_cpu_capability() != "DEFAULT";  // it is AVX2 or more
  const fused::AllKernels& all = wide ? fused::avx2::kernels : fused::generic::kernels;
#else
  const fused::AllKernels& all = fused::generic::kernels;
#endif
  if constexpr (std::is_same_v<io, float>)
    return all.floats;
  else if constexpr (std::is_same_v<io, double>)
    return all.doubles;
  else
    return all.bf16s;
}

#ifdef FSEARCH_CUDA
using Gpu = FusedCudaLaunch;
inline int launch(const Gpu& gpu, const fused::ShiftMix<void>& in, const fused::ShiftMixOutputs<void>& out) {
  return fused_cuda_shift_mix(&gpu, &in, &out);
}
inline int launch(const Gpu& gpu, const fused::ShiftMix<void>& in, const fused::ShiftMixGradients<void>& out,
                  float* total) {
  return fused_cuda_shift_mix_backward(&gpu, &in, &out, total);
}
inline int launch(const Gpu& gpu, const fused::Keys<void>& in, const fused::KeysOutputs<void>& out) {
  return fused_cuda_keys(&gpu, &in, &out);
}
inline int launch(const Gpu& gpu, const fused::Keys<void>& in, const fused::KeysGradients<void>& out, float* total) {
  return fused_cuda_keys_backward(&gpu, &in, &out, total);
}
inline int launch(const Gpu& gpu, const fused::Readout<void>& in, const fused::ReadoutOutputs<void>& out) {
  return fused_cuda_readout(&gpu, &in, &out);
}
inline int launch(const Gpu& gpu, const fused::Readout<void>& in, const fused::ReadoutGradients<void>& out,
                  float* total) {
  return fused_cuda_readout_backward(&gpu, &in, &out, total);
}
inline int launch(const Gpu& gpu, const fused::SquaredRelu<void>& in, const fused::SquaredReluOutputs<void>& out) {
  return fused_cuda_squared_relu(&gpu, &in, &out);
}
inline int launch(const Gpu& gpu, const fused::SquaredRelu<void>& in, const fused::SquaredReluGradients<void>& out) {
  return fused_cuda_squared_relu_backward(&gpu, &in, &out);
}
#endif

// Of the channels' gradients: the sums over each chunk of rows, which the kernels make, and over all of them.
struct Sums {
  Tensor of_chunks, total;  // [chunks,count,C], [count,C]

  // In pairs, so that rounding errors do not add up.
  template <class scalar>
  void add_up() const {
    const int64_t chunks = of_chunks.size(0), count = total.numel();
    scalar* const sums = of_chunks.mutable_data_ptr<scalar>();
    for (int64_t step = 1; step < chunks; step *= 2)
      for (int64_t chunk = 0; chunk + step < chunks; chunk += 2 * step) {
        scalar* const to = sums + chunk * count;
        for (int64_t i = 0; i < count; ++i) to[i] += to[step * count + i];
      }
    std::copy_n(sums, count, total.mutable_data_ptr<scalar>());
  }
};

// The tensors of one call are like the first of its rows in device and type. Once made ready, that is checked, contiguous
// and aligned, they must outlive the pointers taken from them.
struct FusedCall {
  const char* name;
  c10::Device device;
  at::ScalarType type, arithmetic;
  int64_t M, C;

  FusedCall(const char* name, const Tensor& first)
      : name(name),
        device(first.device()),
        type(first.scalar_type()),
        arithmetic(type == at::kDouble ? at::kDouble : at::kFloat),
        M(first.dim() ? first.numel() / std::max<int64_t>(1, first.size(-1)) : 0),
        C(first.dim() ? first.size(-1) : 0) {
    TORCH_CHECK_VALUE(M > 0 && C > 0 && C % 8 == 0, name, " takes rows of a multiple of 8 channels, not ",
                      first.sizes());
    const bool known = type == at::kFloat || type == at::kBFloat16 || (type == at::kDouble && device.is_cpu());
    TORCH_CHECK_TYPE(known, name, " takes Float, BFloat16 or, on a CPU, Double, not ", type);
  }

  void check_heads(int64_t N) const {
    TORCH_CHECK_VALUE((N == 8 || N == 16 || N == 32 || N == 64 || N == 128) && C % N == 0, name,
                      " takes heads of 8, 16, 32, 64 or 128 channels, not of ", N, " of ", C, " channels");
  }
  Tensor rows(const char* what, const Tensor& x) const {
    TORCH_CHECK_VALUE(x.dim() > 0 && x.numel() == M * C && x.size(-1) == C, what, " must have ", M, " rows of ", C,
                      " channels, not the shape ", x.sizes());
    check(what, x, device, x.sizes(), type);
    return aligned(x);
  }
  Tensor channels(const char* what, const Tensor& x) const {
    TORCH_CHECK_VALUE(x.numel() == C, what, " must have ", C, " channels, not the shape ", x.sizes());
    check(what, x, device, x.sizes(), x.scalar_type() == type ? type : arithmetic);
    return aligned(x.to(arithmetic));
  }

  Tensor new_rows() const { return at::empty({M, C}, at::TensorOptions(device).dtype(type)); }
  Sums new_sums(int64_t count) const {
    const auto options = at::TensorOptions(device).dtype(arithmetic);
    return {at::empty({fused::num_chunks(M), count, C}, options), at::empty({count, C}, options)};
  }

  // Calls use(Rows<io>{}).
  template <class Use>
  void with_type(const Use& use) const {
#ifdef FSEARCH_CUDA
    if (!device.is_cpu()) return use(Rows<void>{});
#endif
    type == at::kFloat ? use(Rows<float>{}) : type == at::kDouble ? use(Rows<double>{}) : use(Rows<fused::bf16>{});
  }

  static constexpr int64_t kEnough = 32'768;  // numbers that take about as long as waking a thread

  template <class io, class In, class Out>
  using Pass = void (*fused::Kernels<io>::*)(const In&, const Out&, int64_t begin, int64_t end);

  template <class io, class In, class Out>
  void run([[maybe_unused]] Pass<io, In, Out> pass, const In& in, const Out& out) const {
    if constexpr (std::is_void_v<io>) {
      run_on_gpu(in, out);
    } else {
      const auto rows = cpu_kernels<io>().*pass;
      const int64_t enough = std::max<int64_t>(1, kEnough / C);
      at::parallel_for(0, M, enough, [&](int64_t begin, int64_t end) { rows(in, out, begin, end); });
    }
  }
  template <class io, class In, class Out>
  void run([[maybe_unused]] Pass<io, In, Out> pass, const In& in, const Out& out, const Sums& sums) const {
    if constexpr (std::is_void_v<io>) {
      run_on_gpu(in, out, sums.total.template mutable_data_ptr<float>());
    } else {
      const auto chunks = cpu_kernels<io>().*pass;
      const int64_t enough = std::max<int64_t>(1, kEnough / (fused::kChunk * C));
      at::parallel_for(0, fused::num_chunks(M), enough,
                       [&](int64_t begin, int64_t end) { chunks(in, out, begin, end); });
      sums.add_up<fused::scalar_of<io>>();
    }
  }

 private:
  template <class... Arguments>
  void run_on_gpu([[maybe_unused]] const Arguments&... arguments) const {
#ifdef FSEARCH_CUDA
    const c10::DeviceGuard guard(device);
    const int error = launch({type == at::kBFloat16, device.index(), stream_of(device)}, arguments...);
    TORCH_CHECK(error == 0, "the CUDA kernel of ", name, " could not run: ", fused_cuda_error(error));
#endif
  }
};

}  // namespace binding
