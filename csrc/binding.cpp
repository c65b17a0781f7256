// The torch operators over the kernel, their gradients, and their implementation on a CPU: allocation, threads, choice
// of instruction set. The implementation on a GPU is in binding_cuda.cpp.
//
//   fsearch::wkv7            what users call, differentiable
//   fsearch::wkv7_forward    one pass; absent outputs are empty tensors [0]
//   fsearch::wkv7_backward   its gradient
//   fsearch::backend         name of the instruction set in use
//   fsearch::has_cuda        whether the CUDA kernels are in this library
//
// `chunked` asks for the chunked kernels on a GPU rather than for the sequential ones; on a CPU it means nothing.

#include "binding.h"

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "wkv7_cpu.h"

namespace {

using binding::BackwardResults;
using binding::Call;
using binding::ForwardResults;
using binding::operator_of;
using binding::output;
using binding::pointer;
using at::Tensor;
using std::optional;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

const std::string& backend() {
  static const std::string name = [] {
    // PyTorch's own choice, so that ATEN_CPU_CAPABILITY=avx2|default holds for this kernel as well.
    [[maybe_unused]] const std::string capability = at::get_cpu_capability();
#if defined(__x86_64__)
    if (capability == "AVX512") return "cpu-avx512";
    if (capability == "AVX2") return "cpu-avx2";
#endif
    return "cpu-generic";
  }();
  return name;
}

template <class scalar>
const wkv7::Kernels<scalar>& kernels() {
  constexpr bool single = std::is_same_v<scalar, float>;
#if defined(__x86_64__)
  if constexpr (single) {
    if (backend() == "cpu-avx512") return wkv7::avx512::floats;
    if (backend() == "cpu-avx2") return wkv7::avx2::floats;
  } else {
    if (backend() == "cpu-avx512") return wkv7::avx512::doubles;
    if (backend() == "cpu-avx2") return wkv7::avx2::doubles;
  }
#endif
  if constexpr (single)
    return wkv7::generic::floats;
  else
    return wkv7::generic::doubles;
}

// The tensors of a call as the kernel takes them, contiguous and in the type it computes in. They must outlive the
// pointers taken from them.
struct CpuCall : Call {
  template <class... Arguments>
  explicit CpuCall(const Arguments&... arguments) : Call(arguments...) {
    for (Tensor* x : {&r, &w, &k, &v, &a, &b}) *x = x->to(state_type).contiguous();
    if (s0) s0 = s0->contiguous();
    if (p) p = p->to(at::kLong).contiguous();
    for (int64_t i = 0; p && i < B; ++i) {
      const int64_t count = p->const_data_ptr<int64_t>()[i];
      TORCH_CHECK_VALUE(0 <= count && count <= T, "p must lie between 0 and T = ", T, ", it holds ", count);
    }
  }

  template <class scalar>
  wkv7::Inputs<scalar> inputs() const {
    return {T,
            H,
            sigmoid,
            r.const_data_ptr<scalar>(),
            w.const_data_ptr<scalar>(),
            k.const_data_ptr<scalar>(),
            v.const_data_ptr<scalar>(),
            a.const_data_ptr<scalar>(),
            b.const_data_ptr<scalar>(),
            pointer<scalar>(s0),
            pointer<int64_t>(p)};
  }

  // Calls use(scalar{}) with the type the kernel computes in.
  template <class Use>
  void with_type(const Use& use) const {
    state_type == at::kFloat ? use(float{}) : use(double{});
  }

  // Calls run(begin, end) for ranges that together are all heads; false from any call means there is no such N.
  template <class Run>
  void over_heads(const Run& run) const {
    const int64_t enough = std::max<int64_t>(1, 100'000 / (T * N * N));  // about as long as waking a thread takes
    at::parallel_for(0, B * H, enough, [&](int64_t begin, int64_t end) {
      TORCH_CHECK_VALUE(run(begin, end), "r must have a head size among 8, 16, 32, 64, 128, not ", N);
    });
  }
};

ForwardResults forward(const Tensor& r, const Tensor& w, const Tensor& k, const Tensor& v, const Tensor& a,
                       const Tensor& b, const optional<Tensor>& s0, const optional<Tensor>& p, bool sigmoid,
                       bool return_final, bool save_checkpoints, bool /* chunked */) {
  const CpuCall call(r, w, k, v, a, b, s0, p, sigmoid);
  const Tensor y = call.states(call.r.sizes());
  const Tensor cap = p ? call.states() : call.nothing();
  const Tensor final_state = return_final ? call.states() : call.nothing();
  const int64_t saved = save_checkpoints ? wkv7::num_checkpoints(call.T) : 0;
  const Tensor checkpoints = call.states({call.B * call.H, saved, call.N, call.N});
  call.with_type([&](auto zero) {
    using scalar = decltype(zero);
    const auto in = call.inputs<scalar>();
    const wkv7::Outputs<scalar> out = {output<scalar>(y), output<scalar>(cap), output<scalar>(final_state),
                                       output<scalar>(checkpoints)};
    call.over_heads([&](int64_t begin, int64_t end) { return kernels<scalar>().forward(call.N, in, out, begin, end); });
  });
  return {y.to(r.scalar_type()), cap, final_state, checkpoints};
}

BackwardResults backward(const optional<Tensor>& dy, const optional<Tensor>& dcap, const optional<Tensor>& dfinal,
                         const Tensor& r, const Tensor& w, const Tensor& k, const Tensor& v, const Tensor& a,
                         const Tensor& b, const optional<Tensor>& s0, const optional<Tensor>& p,
                         const Tensor& checkpoints, bool sigmoid, bool need_ds0, bool /* chunked */) {
  const CpuCall call(r, w, k, v, a, b, s0, p, sigmoid);
  const auto given = [&](const char* name, const optional<Tensor>& x, at::IntArrayRef sizes, at::ScalarType type) {
    if (!x) return optional<Tensor>();
    call.check(name, *x, sizes, type);
    return optional<Tensor>(x->to(call.state_type).contiguous());
  };
  const auto dy_ = given("dy", dy, r.sizes(), r.scalar_type());
  const auto dcap_ = given("dcap", dcap, call.state_sizes(), call.state_type);
  const auto dfinal_ = given("dfinal", dfinal, call.state_sizes(), call.state_type);
  call.check("checkpoints", checkpoints, {call.B * call.H, wkv7::num_checkpoints(call.T), call.N, call.N},
             call.state_type);
  const auto like_r = [&] { return call.states(call.r.sizes()); };
  const Tensor dr = like_r(), dw = like_r(), dk = like_r(), dv = like_r(), da = like_r(), db = like_r();
  const Tensor ds0 = need_ds0 ? call.states() : call.nothing();
  call.with_type([&](auto zero) {
    using scalar = decltype(zero);
    const auto in = call.inputs<scalar>();
    const wkv7::Gradients<scalar> out = {
        pointer<scalar>(dy_), pointer<scalar>(dcap_), pointer<scalar>(dfinal_), output<scalar>(checkpoints),
        output<scalar>(dr),   output<scalar>(dw),     output<scalar>(dk),       output<scalar>(dv),
        output<scalar>(da),   output<scalar>(db),     output<scalar>(ds0)};
    call.over_heads([&](int64_t begin, int64_t end) { return kernels<scalar>().backward(call.N, in, out, begin, end); });
  });
  const at::ScalarType type = r.scalar_type();
  return {dr.to(type), dw.to(w.scalar_type()), dk.to(type), dv.to(type), da.to(type), db.to(type), ds0};
}

auto forward_operator() {
  static const auto op = operator_of("fsearch::wkv7_forward", &forward);
  return op;
}

auto backward_operator() {
  static const auto op = operator_of("fsearch::wkv7_backward", &backward);
  return op;
}

optional<Tensor> present(const Tensor& x) { return x.defined() ? optional<Tensor>(x) : std::nullopt; }

// Outputs: y, then cap if there is p, then the final state if it was asked for.
struct Wkv7 : torch::autograd::Function<Wkv7> {
  static variable_list forward(AutogradContext* ctx, const Tensor& r, const Tensor& w, const Tensor& k, const Tensor& v,
                               const Tensor& a, const Tensor& b, const optional<Tensor>& s0, const optional<Tensor>& p,
                               bool sigmoid, bool return_final, bool chunked) {
    const at::AutoDispatchBelowADInplaceOrView below;
    auto [y, cap, final_state, checkpoints] =
        forward_operator().call(r, w, k, v, a, b, s0, p, sigmoid, return_final, true, chunked);
    ctx->save_for_backward({r, w, k, v, a, b, s0.value_or(Tensor()), p.value_or(Tensor()), checkpoints});
    ctx->saved_data["sigmoid"] = sigmoid;
    ctx->saved_data["chunked"] = chunked;
    ctx->set_materialize_grads(false);  // an output nobody used has no gradient, not one of zeros
    variable_list outputs = {y};
    if (p) outputs.push_back(cap);
    if (return_final) outputs.push_back(final_state);
    return outputs;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    TORCH_CHECK(!at::GradMode::is_enabled(), "wkv7_fs cannot be differentiated twice; impl='chunked' can");
    const variable_list saved = ctx->get_saved_variables();
    const Tensor &s0 = saved[6], &p = saved[7];
    const size_t cap_at = 1, final_at = p.defined() ? 2 : 1;
    const auto dcap = p.defined() ? present(grads[cap_at]) : std::nullopt;
    const auto dfinal = final_at < grads.size() ? present(grads[final_at]) : std::nullopt;
    const bool need_ds0 = s0.defined() && ctx->needs_input_grad(6);
    auto [dr, dw, dk, dv, da, db, ds0] = backward_operator().call(
        present(grads[0]), dcap, dfinal, saved[0], saved[1], saved[2], saved[3], saved[4], saved[5], present(s0),
        present(p), saved[8], ctx->saved_data["sigmoid"].toBool(), need_ds0,
        ctx->saved_data["chunked"].toBool());
    return {dr, dw, dk, dv, da, db, need_ds0 ? ds0 : Tensor(), Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

using Results = std::tuple<Tensor, optional<Tensor>, optional<Tensor>>;

Results without_gradient(const Tensor& r, const Tensor& w, const Tensor& k, const Tensor& v, const Tensor& a,
                         const Tensor& b, const optional<Tensor>& s0, const optional<Tensor>& p, bool sigmoid,
                         bool return_final, bool chunked) {
  auto [y, cap, final_state, checkpoints] =
      forward_operator().call(r, w, k, v, a, b, s0, p, sigmoid, return_final, false, chunked);
  return {y, p ? optional<Tensor>(cap) : std::nullopt, return_final ? optional<Tensor>(final_state) : std::nullopt};
}

Results with_gradient(const Tensor& r, const Tensor& w, const Tensor& k, const Tensor& v, const Tensor& a,
                      const Tensor& b, const optional<Tensor>& s0, const optional<Tensor>& p, bool sigmoid,
                      bool return_final, bool chunked) {
  bool wanted = s0 && s0->requires_grad();
  for (const Tensor* x : {&r, &w, &k, &v, &a, &b}) wanted = wanted || x->requires_grad();
  if (!wanted || !at::GradMode::is_enabled()) {
    const at::AutoDispatchBelowADInplaceOrView below;
    return without_gradient(r, w, k, v, a, b, s0, p, sigmoid, return_final, chunked);
  }
  const variable_list outputs = Wkv7::apply(r, w, k, v, a, b, s0, p, sigmoid, return_final, chunked);
  return {outputs[0], p ? optional<Tensor>(outputs[1]) : std::nullopt,
          return_final ? optional<Tensor>(outputs.back()) : std::nullopt};
}

}  // namespace

TORCH_LIBRARY(fsearch, m) {
  m.def("backend() -> str", [] { return backend(); });
#ifdef FSEARCH_CUDA
  m.def("has_cuda() -> bool", [] { return true; });
#else
  m.def("has_cuda() -> bool", [] { return false; });
#endif
  m.def(
      "wkv7(Tensor r, Tensor w, Tensor k, Tensor v, Tensor a, Tensor b, Tensor? s0, Tensor? p, bool sigmoid, "
      "bool return_final, bool chunked=False) -> (Tensor, Tensor?, Tensor?)");
  m.def(
      "wkv7_forward(Tensor r, Tensor w, Tensor k, Tensor v, Tensor a, Tensor b, Tensor? s0, Tensor? p, bool sigmoid, "
      "bool return_final, bool save_checkpoints, bool chunked=False) -> (Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "wkv7_backward(Tensor? dy, Tensor? dcap, Tensor? dfinal, Tensor r, Tensor w, Tensor k, Tensor v, Tensor a, "
      "Tensor b, Tensor? s0, Tensor? p, Tensor checkpoints, bool sigmoid, bool need_ds0, bool chunked=False) -> "
      "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(fsearch, CPU, m) {
  m.impl("wkv7_forward", forward);
  m.impl("wkv7_backward", backward);
}

TORCH_LIBRARY_IMPL(fsearch, CompositeExplicitAutograd, m) { m.impl("wkv7", without_gradient); }

TORCH_LIBRARY_IMPL(fsearch, Autograd, m) { m.impl("wkv7", with_gradient); }
