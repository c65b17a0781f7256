// The torch operators of the fused Future-Seed preparation (see future_seed.h) on both devices, and their gradient.
//
//   fsearch::future_seed            what users call, differentiable: captured [B,H,N,N], gate [B,H] -> seed [B,H,N,N]
//   fsearch::future_seed_backward   its gradients [B,H,N,N] and [B,H]; those not needed are empty tensors [0]
//
// Shapes, dtypes and ranges are checked, in words, by the Python front; here only what keeps memory safe.

#include "binding.h"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <limits>

#include "future_seed.h"

namespace {

using at::Tensor;
using binding::operator_of;
using std::optional;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

using Results = std::tuple<Tensor, Tensor>;

// The tensors of one call, checked, contiguous, and aligned for wide loads, which a view into a larger tensor may not
// be. They must outlive the pointers taken from them.
struct Call {
  Tensor captured, gate;
  bool norm;
  optional<double> clip;

  Call(const Tensor& captured_, const Tensor& gate_, bool norm_, optional<double> clip_)
      : captured(captured_), gate(gate_), norm(norm_), clip(clip_) {
    const bool square = captured.dim() == 4 && captured.numel() > 0 && captured.size(2) == captured.size(3);
    TORCH_CHECK_VALUE(square, "captured must have the shape [B,H,N,N], none of them 0");
    const int64_t N = captured.size(3);
    TORCH_CHECK_VALUE(N == 8 || N == 16 || N == 32 || N == 64 || N == 128,
                      "captured must have a head size among 8, 16, 32, 64, 128, not ", N);
    const at::ScalarType type = captured.scalar_type();
    TORCH_CHECK_TYPE(type == at::kFloat || (type == at::kDouble && captured.is_cpu()), "captured must be Float",
                     captured.is_cpu() ? " or Double" : " on a GPU", ", not ", type);
    captured = ready("captured", captured, captured.sizes());
    gate = ready("gate", gate, {captured.size(0), captured.size(1)});
  }

  Tensor ready(const char* name, const Tensor& x, at::IntArrayRef sizes) const {
    binding::check(name, x, captured.device(), sizes, captured.scalar_type());
    return binding::aligned(x);
  }

  Tensor output(bool needed, at::IntArrayRef sizes) const {
    return at::empty(needed ? sizes : at::IntArrayRef{0}, captured.options());
  }

  template <class scalar>
  future_seed::Inputs<scalar> inputs() const {
    return {gate.numel(),
            captured.size(3),
            captured.const_data_ptr<scalar>(),
            gate.const_data_ptr<scalar>(),
            clip ? scalar(*clip) : std::numeric_limits<scalar>::infinity(),
            norm};
  }

  // Calls use(scalar{}) with the tensors' element type.
  template <class Use>
  void with_type(const Use& use) const {
    captured.scalar_type() == at::kFloat ? use(float{}) : use(double{});
  }

  // Calls run(begin, end) for ranges that together are all heads.
  template <class Run>
  void over_heads(const Run& run) const {
    const int64_t matrix = captured.size(2) * captured.size(3);
    const int64_t enough = std::max<int64_t>(1, 32'768 / matrix);  // about as long as waking a thread takes
    at::parallel_for(0, gate.numel(), enough, run);
  }
};

Tensor forward_cpu(const Tensor& captured, const Tensor& gate, bool norm, optional<double> clip) {
  const Call call(captured, gate, norm, clip);
  const Tensor seed = call.output(true, captured.sizes());
  call.with_type([&](auto zero) {
    using scalar = decltype(zero);
    const auto in = call.inputs<scalar>();
    scalar* const out = binding::output<scalar>(seed);
    call.over_heads([&](int64_t begin, int64_t end) { future_seed::forward(in, out, begin, end); });
  });
  return seed;
}

Results backward_cpu(const Tensor& dseed_, const Tensor& captured, const Tensor& gate, bool norm, optional<double> clip,
                     bool need_captured, bool need_gate) {
  const Call call(captured, gate, norm, clip);
  const Tensor dseed = call.ready("dseed", dseed_, captured.sizes());
  const Tensor dcaptured = call.output(need_captured, captured.sizes()), dgate = call.output(need_gate, gate.sizes());
  call.with_type([&](auto zero) {
    using scalar = decltype(zero);
    const auto in = call.inputs<scalar>();
    const scalar* const given = dseed.const_data_ptr<scalar>();
    const future_seed::Gradients<scalar> out = {binding::output<scalar>(dcaptured), binding::output<scalar>(dgate)};
    call.over_heads([&](int64_t begin, int64_t end) { future_seed::backward(in, given, out, begin, end); });
  });
  return {dcaptured, dgate};
}

#ifdef FSEARCH_CUDA

void check(int error) {
  TORCH_CHECK(error == 0, "the CUDA kernel of future_seed could not run: ", future_seed_cuda_error(error));
}

Tensor forward_cuda(const Tensor& captured, const Tensor& gate, bool norm, optional<double> clip) {
  const c10::Device device = captured.device();
  const c10::DeviceGuard guard(device);
  const Call call(captured, gate, norm, clip);
  const Tensor seed = call.output(true, captured.sizes());
  const auto in = call.inputs<float>();
  check(future_seed_cuda_forward(&in, binding::output<float>(seed), device.index(), binding::stream_of(device)));
  return seed;
}

Results backward_cuda(const Tensor& dseed_, const Tensor& captured, const Tensor& gate, bool norm,
                      optional<double> clip, bool need_captured, bool need_gate) {
  const c10::Device device = captured.device();
  const c10::DeviceGuard guard(device);
  const Call call(captured, gate, norm, clip);
  const Tensor dseed = call.ready("dseed", dseed_, captured.sizes());
  const Tensor dcaptured = call.output(need_captured, captured.sizes()), dgate = call.output(need_gate, gate.sizes());
  const auto in = call.inputs<float>();
  const future_seed::Gradients<float> out = {binding::output<float>(dcaptured), binding::output<float>(dgate)};
  check(future_seed_cuda_backward(&in, dseed.const_data_ptr<float>(), &out, device.index(), binding::stream_of(device)));
  return {dcaptured, dgate};
}

#endif

struct FutureSeed : torch::autograd::Function<FutureSeed> {
  static Tensor forward(AutogradContext* ctx, const Tensor& captured, const Tensor& gate, bool norm,
                        optional<double> clip) {
    static const auto op = operator_of("fsearch::future_seed", &forward_cpu);
    const at::AutoDispatchBelowADInplaceOrView below;
    ctx->save_for_backward({captured, gate});
    ctx->saved_data["norm"] = norm;
    ctx->saved_data["clip"] = clip;
    ctx->set_materialize_grads(false);
    return op.call(captured, gate, norm, clip);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    TORCH_CHECK(!at::GradMode::is_enabled(),
                "future_seed cannot be differentiated twice; the fallback, fsearch.kernels.use('chunked'), can");
    static const auto op = operator_of("fsearch::future_seed_backward", &backward_cpu);
    if (!grads[0].defined()) return variable_list(4);
    const variable_list saved = ctx->get_saved_variables();
    const bool need_captured = ctx->needs_input_grad(0), need_gate = ctx->needs_input_grad(1);
    auto [dcaptured, dgate] = op.call(grads[0], saved[0], saved[1], ctx->saved_data["norm"].toBool(),
                                      ctx->saved_data["clip"].toOptional<double>(), need_captured, need_gate);
    return {need_captured ? dcaptured : Tensor(), need_gate ? dgate : Tensor(), Tensor(), Tensor()};
  }
};

Tensor with_gradient(const Tensor& captured, const Tensor& gate, bool norm, optional<double> clip) {
  return FutureSeed::apply(captured, gate, norm, clip);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(fsearch, m) {
  m.def("future_seed(Tensor captured, Tensor gate, bool norm, float? clip) -> Tensor");
  m.def(
      "future_seed_backward(Tensor dseed, Tensor captured, Tensor gate, bool norm, float? clip, bool need_captured, "
      "bool need_gate) -> (Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(fsearch, CPU, m) {
  m.impl("future_seed", forward_cpu);
  m.impl("future_seed_backward", backward_cpu);
}

#ifdef FSEARCH_CUDA
TORCH_LIBRARY_IMPL(fsearch, CUDA, m) {
  m.impl("future_seed", forward_cuda);
  m.impl("future_seed_backward", backward_cuda);
}
#endif

TORCH_LIBRARY_IMPL(fsearch, Autograd, m) { m.impl("future_seed", with_gradient); }
