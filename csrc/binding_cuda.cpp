// The operator's implementation on a GPU: allocation and launches. See binding.cpp.
//
// Nothing of torch's CUDA headers or libraries is used, so that this builds against any torch: the device and its
// current stream come through the interface that all of torch's devices share, and the kernels take plain pointers.

#ifdef FSEARCH_CUDA

#include "binding.h"

#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include "wkv7_cuda.h"

namespace {

using binding::BackwardResults;
using binding::Call;
using binding::ForwardResults;
using binding::pointer;
using at::Tensor;
using std::optional;

void check(int error) {
  TORCH_CHECK(error == 0, "the CUDA kernel of wkv7_fs could not run: ", wkv7_cuda_error(error));
}

int64_t num_checkpoints(int64_t T) { return (T + kWkv7CudaCheckpointEvery - 1) / kWkv7CudaCheckpointEvery; }

optional<Tensor> aligned(const optional<Tensor>& x) { return x ? optional<Tensor>(binding::aligned(*x)) : x; }

template <class T>
T* data(const Tensor& x) {  // null for `nothing`
  return x.numel() ? static_cast<T*>(x.mutable_data_ptr()) : nullptr;
}

// The tensors of a call as the kernel takes them. They must outlive the pointers taken from them.
struct CudaCall : Call {
  c10::DeviceGuard guard;

  template <class... Arguments>
  explicit CudaCall(const Tensor& r_, const Arguments&... arguments) : Call(r_, arguments...), guard(r_.device()) {
    TORCH_CHECK_TYPE(r.scalar_type() != at::kDouble, "r must be Float or BFloat16 on a GPU, not Double");
    for (Tensor* x : {&r, &w, &k, &v, &a, &b}) *x = binding::aligned(*x);
    s0 = aligned(s0);
    if (p) p = p->clamp(0, T).to(at::kInt).contiguous();  // in this order: a wild count must not wrap
    const int64_t blocks = B * H * wkv7_cuda_panels(N);
    TORCH_CHECK_VALUE(blocks <= INT32_MAX, "r holds ", B * H, " heads, more than one launch can have");
  }

  Wkv7CudaInputs inputs() const {
    const c10::Device device = r.device();
    return {B,
            T,
            H,
            N,
            sigmoid,
            r.scalar_type() == at::kBFloat16,
            w.scalar_type() == at::kBFloat16,
            device.index(),
            binding::stream_of(device),
            r.const_data_ptr(),
            w.const_data_ptr(),
            k.const_data_ptr(),
            v.const_data_ptr(),
            a.const_data_ptr(),
            b.const_data_ptr(),
            pointer<float>(s0),
            pointer<int32_t>(p)};
  }
};

ForwardResults forward(const Tensor& r, const Tensor& w, const Tensor& k, const Tensor& v, const Tensor& a,
                       const Tensor& b, const optional<Tensor>& s0, const optional<Tensor>& p, bool sigmoid,
                       bool return_final, bool save_checkpoints) {
  const CudaCall call(r, w, k, v, a, b, s0, p, sigmoid);
  const Tensor y = at::empty(call.r.sizes(), call.r.options());
  const Tensor cap = p ? call.states() : call.nothing();
  const Tensor final_state = return_final ? call.states() : call.nothing();
  const int64_t saved = save_checkpoints ? num_checkpoints(call.T) : 0;
  const Tensor checkpoints = call.states({call.B * call.H, saved, call.N, call.N});
  const Wkv7CudaInputs in = call.inputs();
  const Wkv7CudaOutputs out = {data<void>(y), data<float>(cap), data<float>(final_state), data<float>(checkpoints)};
  check(wkv7_cuda_forward(&in, &out));
  return {y, cap, final_state, checkpoints};
}

BackwardResults backward(const optional<Tensor>& dy, const optional<Tensor>& dcap, const optional<Tensor>& dfinal,
                         const Tensor& r, const Tensor& w, const Tensor& k, const Tensor& v, const Tensor& a,
                         const Tensor& b, const optional<Tensor>& s0, const optional<Tensor>& p,
                         const Tensor& checkpoints, bool sigmoid, bool need_ds0) {
  const CudaCall call(r, w, k, v, a, b, s0, p, sigmoid);
  const int64_t heads = call.B * call.H, T = call.T, N = call.N;
  if (dy) call.check("dy", *dy, r.sizes(), r.scalar_type());
  if (dcap) call.check("dcap", *dcap, call.state_sizes(), at::kFloat);
  if (dfinal) call.check("dfinal", *dfinal, call.state_sizes(), at::kFloat);
  call.check("checkpoints", checkpoints, {heads, num_checkpoints(T), N, N}, at::kFloat);
  const optional<Tensor> dy_ = aligned(dy), dcap_ = aligned(dcap);
  const auto like = [](const Tensor& x) { return at::empty(x.sizes(), x.options()); };
  const Tensor dr = like(call.r), dw = like(call.w), dk = like(call.k), dv = like(call.v), da = like(call.a),
               db = like(call.b);
  const Tensor adjoint = dfinal ? dfinal->clone(at::MemoryFormat::Contiguous)
                                : at::zeros(call.state_sizes(), call.r.options().dtype(at::kFloat));
  const Tensor states = call.states({heads, kWkv7CudaCheckpointEvery / kWkv7CudaSegment, N, N});
  const Tensor partials = call.states({heads, kWkv7CudaCheckpointEvery, wkv7_cuda_panels(N), 5, N});
  const Wkv7CudaInputs in = call.inputs();
  const Wkv7CudaGradients out = {dy_ ? dy_->const_data_ptr() : nullptr,
                                 pointer<float>(dcap_),
                                 data<float>(checkpoints),
                                 data<float>(adjoint),
                                 data<float>(states),
                                 data<float>(partials),
                                 data<void>(dr),
                                 data<void>(dw),
                                 data<void>(dk),
                                 data<void>(dv),
                                 data<void>(da),
                                 data<void>(db)};
  check(wkv7_cuda_backward(&in, &out));
  return {dr, dw, dk, dv, da, db, need_ds0 ? adjoint : call.nothing()};
}

}  // namespace

TORCH_LIBRARY_IMPL(fsearch, CUDA, m) {
  m.impl("wkv7_forward", forward);
  m.impl("wkv7_backward", backward);
}

#endif
