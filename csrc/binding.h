// What the bindings of all operators and devices share: checks, alignment, streams, the way through the dispatcher; and
// the checked tensors of one call of the WKV7 operator.
//
// Shapes, dtypes and ranges are checked, in words, by the Python front; here only what keeps memory safe.
// Narrow headers on purpose: torch/extension.h alone takes half a minute to compile.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>

#ifdef FSEARCH_CUDA  // a device and its stream as all of torch's devices have them: no CUDA headers
#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#endif

#include <optional>
#include <tuple>
#include <vector>

namespace binding {

using at::Tensor;
using std::optional;

using ForwardResults = std::tuple<Tensor, Tensor, Tensor, Tensor>;                             // y, cap, sT, checkpoints
using BackwardResults = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;  // dr dw dk dv da db ds0

inline void check(const char* name, const Tensor& x, c10::Device device, at::IntArrayRef sizes, at::ScalarType type) {
  TORCH_CHECK_VALUE(x.sizes() == sizes && x.device() == device, name, " must be a ", device, " tensor of the shape ",
                    sizes);
  TORCH_CHECK_TYPE(x.scalar_type() == type, name, " must be ", type, ", not ", x.scalar_type());
}

// Contiguous, and aligned for wide loads, which a view into a larger tensor may not be.
inline Tensor aligned(const Tensor& x) {
  const Tensor y = x.contiguous();
  return reinterpret_cast<uintptr_t>(y.const_data_ptr()) % 16 == 0 ? y : y.clone();
}

// Through the dispatcher, so that every device and fake tensors find their own implementations.
template <class Function>
auto operator_of(const char* name, Function*) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Function>();
}

#ifdef FSEARCH_CUDA
inline void* stream_of(c10::Device device) {  // the current one
  return c10::impl::VirtualGuardImpl(device.type()).getStream(device).native_handle();
}
#endif

struct Call {
  Tensor r, w, k, v, a, b;
  optional<Tensor> s0, p;
  bool sigmoid;
  int64_t B, T, H, N;
  at::ScalarType state_type;  // of the states and of all arithmetic

  Call(const Tensor& r_, const Tensor& w_, const Tensor& k_, const Tensor& v_, const Tensor& a_, const Tensor& b_,
       const optional<Tensor>& s0_, const optional<Tensor>& p_, bool sigmoid_)
      : r(r_), w(w_), k(k_), v(v_), a(a_), b(b_), s0(s0_), p(p_), sigmoid(sigmoid_) {
    const at::ScalarType type = r.scalar_type();
    TORCH_CHECK_VALUE(r.dim() == 4 && r.numel() > 0, "r must have the shape [B,T,H,N], none of them 0");
    TORCH_CHECK_TYPE(type == at::kDouble || type == at::kFloat || type == at::kBFloat16,
                     "r must be Double, Float or BFloat16, not ", type);
    B = r.size(0), T = r.size(1), H = r.size(2), N = r.size(3);
    state_type = type == at::kDouble ? at::kDouble : at::kFloat;
    check("w", w, r.sizes(), type == at::kBFloat16 && w.scalar_type() == at::kFloat ? at::kFloat : type);
    check("k", k, r.sizes(), type);
    check("v", v, r.sizes(), type);
    check("a", a, r.sizes(), type);
    check("b", b, r.sizes(), type);
    if (s0) check("s0", *s0, state_sizes(), state_type);
    if (p) check("p", *p, {B}, p->scalar_type() == at::kInt ? at::kInt : at::kLong);
  }

  void check(const char* name, const Tensor& x, at::IntArrayRef sizes, at::ScalarType type) const {
    binding::check(name, x, r.device(), sizes, type);
  }

  std::vector<int64_t> state_sizes() const { return {B, H, N, N}; }
  Tensor states(at::IntArrayRef sizes) const { return at::empty(sizes, r.options().dtype(state_type)); }
  Tensor states() const { return states(state_sizes()); }
  Tensor nothing() const { return states({0}); }
};

template <class scalar>
const scalar* pointer(const optional<Tensor>& x) {
  return x ? x->const_data_ptr<scalar>() : nullptr;
}

template <class scalar>
scalar* output(const Tensor& x) {  // null for an empty tensor, which stands for an absent output
  return x.numel() ? x.mutable_data_ptr<scalar>() : nullptr;
}

}  // namespace binding
