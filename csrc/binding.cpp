// The torch operators over the kernel: allocation, threads, choice of instruction set, gradients.
//
//   fsearch::wkv7            what users call, differentiable
//   fsearch::wkv7_forward    one pass; absent outputs are empty tensors [0]
//   fsearch::wkv7_backward   its gradient
//   fsearch::backend         name of the instruction set in use
//
// Shapes, dtypes and ranges are checked, in words, by the Python front; here only what keeps memory safe.
// Narrow headers on purpose: torch/extension.h alone takes half a minute to compile.

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "wkv7_cpu.h"

namespace {

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

void check(const char* name, const Tensor& x, at::IntArrayRef sizes, at::ScalarType type) {
  TORCH_CHECK_VALUE(x.sizes() == sizes && x.device().is_cpu(), name, " must be a CPU tensor of the shape ", sizes);
  TORCH_CHECK_TYPE(x.scalar_type() == type, name, " must be ", type, ", not ", x.scalar_type());
}

// The tensors of one call, checked and contiguous: they must outlive the pointers taken from them.
struct Arguments {
  Tensor r, w, k, v, a, b;
  optional<Tensor> s0, p;
  int64_t B, T, H, N;
  bool sigmoid;

  Arguments(const Tensor& r_, const Tensor& w_, const Tensor& k_, const Tensor& v_, const Tensor& a_, const Tensor& b_,
            const optional<Tensor>& s0_, const optional<Tensor>& p_, bool sigmoid_)
      : r(r_.contiguous()), w(w_.contiguous()), k(k_.contiguous()), v(v_.contiguous()), a(a_.contiguous()),
        b(b_.contiguous()), sigmoid(sigmoid_) {
    TORCH_CHECK_VALUE(r.dim() == 4 && r.numel() > 0, "r must have the shape [B,T,H,N], none of them 0");
    B = r.size(0), T = r.size(1), H = r.size(2), N = r.size(3);
    check("w", w, r.sizes(), r.scalar_type());
    check("k", k, r.sizes(), r.scalar_type());
    check("v", v, r.sizes(), r.scalar_type());
    check("a", a, r.sizes(), r.scalar_type());
    check("b", b, r.sizes(), r.scalar_type());
    if (s0_) {
      check("s0", *s0_, {B, H, N, N}, r.scalar_type());
      s0 = s0_->contiguous();
    }
    if (p_) {
      p = p_->to(at::kLong).contiguous();
      check("p", *p, {B}, at::kLong);
    }
  }

  Tensor states() const { return at::empty({B, H, N, N}, r.options()); }
  Tensor nothing() const { return at::empty({0}, r.options()); }

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
            s0 ? s0->const_data_ptr<scalar>() : nullptr,
            p ? p->const_data_ptr<int64_t>() : nullptr};
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

// Calls use(scalar{}) with the tensor's element type.
template <class Use>
void with_type(const Tensor& x, const Use& use) {
  TORCH_CHECK_TYPE(x.scalar_type() == at::kFloat || x.scalar_type() == at::kDouble,
                   "r must be float32 or float64, not ", x.scalar_type());
  x.scalar_type() == at::kFloat ? use(float{}) : use(double{});
}

template <class scalar>
scalar* pointer(const Tensor& x) {  // null for the empty tensor that stands for an absent one
  return x.numel() ? x.mutable_data_ptr<scalar>() : nullptr;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> forward(const Tensor& r, const Tensor& w, const Tensor& k, const Tensor& v,
                                                   const Tensor& a, const Tensor& b, const optional<Tensor>& s0,
                                                   const optional<Tensor>& p, bool sigmoid, bool return_final,
                                                   bool save_checkpoints) {
  const Arguments args(r, w, k, v, a, b, s0, p, sigmoid);
  const Tensor y = at::empty(args.r.sizes(), args.r.options());
  const Tensor cap = p ? args.states() : args.nothing();
  const Tensor final_state = return_final ? args.states() : args.nothing();
  const int64_t saved = save_checkpoints ? wkv7::num_checkpoints(args.T) : 0;
  const Tensor checkpoints = at::empty({args.B * args.H, saved, args.N, args.N}, args.r.options());
  with_type(r, [&](auto zero) {
    using scalar = decltype(zero);
    const auto in = args.inputs<scalar>();
    const wkv7::Outputs<scalar> out = {pointer<scalar>(y), pointer<scalar>(cap), pointer<scalar>(final_state),
                                       pointer<scalar>(checkpoints)};
    args.over_heads([&](int64_t begin, int64_t end) { return kernels<scalar>().forward(args.N, in, out, begin, end); });
  });
  return {y, cap, final_state, checkpoints};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> backward(
    const optional<Tensor>& dy, const optional<Tensor>& dcap, const optional<Tensor>& dfinal, const Tensor& r,
    const Tensor& w, const Tensor& k, const Tensor& v, const Tensor& a, const Tensor& b, const optional<Tensor>& s0,
    const optional<Tensor>& p, const Tensor& checkpoints, bool sigmoid, bool need_ds0) {
  const Arguments args(r, w, k, v, a, b, s0, p, sigmoid);
  const at::ScalarType type = args.r.scalar_type();
  const auto given = [&](const char* name, const optional<Tensor>& x, at::IntArrayRef sizes) {
    if (!x) return args.nothing();
    check(name, *x, sizes, type);
    return x->contiguous();
  };
  const std::vector<int64_t> state = {args.B, args.H, args.N, args.N};
  const Tensor dy_ = given("dy", dy, args.r.sizes()), dcap_ = given("dcap", dcap, state),
               dfinal_ = given("dfinal", dfinal, state);
  check("checkpoints", checkpoints, {args.B * args.H, wkv7::num_checkpoints(args.T), args.N, args.N}, type);
  const auto like_r = [&] { return at::empty(args.r.sizes(), args.r.options()); };
  const Tensor dr = like_r(), dw = like_r(), dk = like_r(), dv = like_r(), da = like_r(), db = like_r();
  const Tensor ds0 = need_ds0 ? args.states() : args.nothing();
  with_type(r, [&](auto zero) {
    using scalar = decltype(zero);
    const auto in = args.inputs<scalar>();
    const wkv7::Gradients<scalar> out = {
        pointer<scalar>(dy_), pointer<scalar>(dcap_), pointer<scalar>(dfinal_), pointer<scalar>(checkpoints),
        pointer<scalar>(dr),  pointer<scalar>(dw),    pointer<scalar>(dk),      pointer<scalar>(dv),
        pointer<scalar>(da),  pointer<scalar>(db),    pointer<scalar>(ds0)};
    args.over_heads([&](int64_t begin, int64_t end) { return kernels<scalar>().backward(args.N, in, out, begin, end); });
  });
  return {dr, dw, dk, dv, da, db, ds0};
}

// Through the dispatcher, so that fake tensors find their own implementations.
template <class Function>
auto operator_of(const char* name, Function*) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Function>();
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
                               bool sigmoid, bool return_final) {
    const at::AutoDispatchBelowADInplaceOrView below;
    auto [y, cap, final_state, checkpoints] =
        forward_operator().call(r, w, k, v, a, b, s0, p, sigmoid, return_final, true);
    ctx->save_for_backward({r, w, k, v, a, b, s0.value_or(Tensor()), p.value_or(Tensor()), checkpoints});
    ctx->saved_data["sigmoid"] = sigmoid;
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
        present(p), saved[8], ctx->saved_data["sigmoid"].toBool(), need_ds0);
    return {dr, dw, dk, dv, da, db, need_ds0 ? ds0 : Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

using Results = std::tuple<Tensor, optional<Tensor>, optional<Tensor>>;

Results without_gradient(const Tensor& r, const Tensor& w, const Tensor& k, const Tensor& v, const Tensor& a,
                         const Tensor& b, const optional<Tensor>& s0, const optional<Tensor>& p, bool sigmoid,
                         bool return_final) {
  auto [y, cap, final_state, checkpoints] =
      forward_operator().call(r, w, k, v, a, b, s0, p, sigmoid, return_final, false);
  return {y, p ? optional<Tensor>(cap) : std::nullopt, return_final ? optional<Tensor>(final_state) : std::nullopt};
}

Results with_gradient(const Tensor& r, const Tensor& w, const Tensor& k, const Tensor& v, const Tensor& a,
                      const Tensor& b, const optional<Tensor>& s0, const optional<Tensor>& p, bool sigmoid,
                      bool return_final) {
  bool wanted = s0 && s0->requires_grad();
  for (const Tensor* x : {&r, &w, &k, &v, &a, &b}) wanted = wanted || x->requires_grad();
  if (!wanted || !at::GradMode::is_enabled()) {
    const at::AutoDispatchBelowADInplaceOrView below;
    return without_gradient(r, w, k, v, a, b, s0, p, sigmoid, return_final);
  }
  const variable_list outputs = Wkv7::apply(r, w, k, v, a, b, s0, p, sigmoid, return_final);
  return {outputs[0], p ? optional<Tensor>(outputs[1]) : std::nullopt,
          return_final ? optional<Tensor>(outputs.back()) : std::nullopt};
}

}  // namespace

TORCH_LIBRARY(fsearch, m) {
  m.def("backend() -> str", [] { return backend(); });
  m.def(
      "wkv7(Tensor r, Tensor w, Tensor k, Tensor v, Tensor a, Tensor b, Tensor? s0, Tensor? p, bool sigmoid, "
      "bool return_final) -> (Tensor, Tensor?, Tensor?)");
  m.def(
      "wkv7_forward(Tensor r, Tensor w, Tensor k, Tensor v, Tensor a, Tensor b, Tensor? s0, Tensor? p, bool sigmoid, "
      "bool return_final, bool save_checkpoints) -> (Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "wkv7_backward(Tensor? dy, Tensor? dcap, Tensor? dfinal, Tensor r, Tensor w, Tensor k, Tensor v, Tensor a, "
      "Tensor b, Tensor? s0, Tensor? p, Tensor checkpoints, bool sigmoid, bool need_ds0) -> "
      "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(fsearch, CPU, m) {
  m.impl("wkv7", without_gradient);
  m.impl("wkv7_forward", forward);
  m.impl("wkv7_backward", backward);
}

TORCH_LIBRARY_IMPL(fsearch, Autograd, m) { m.impl("wkv7", with_gradient); }
