// What the bindings of both CUDA kernels share: the tensors of a call as they take them.
#pragma once

#include "binding.h"
#include "wkv7_cuda.h"

namespace binding {

inline optional<Tensor> aligned(const optional<Tensor>& x) { return x ? optional<Tensor>(aligned(*x)) : x; }

template <class T>
T* data(const Tensor& x) {  // null for an empty tensor, which stands for an absent one
  return x.numel() ? static_cast<T*>(x.mutable_data_ptr()) : nullptr;
}

// They must outlive the pointers taken from them.
struct CudaCall : Call {
  c10::DeviceGuard guard;

  template <class... Arguments>
  explicit CudaCall(const Tensor& r_, const Arguments&... arguments) : Call(r_, arguments...), guard(r_.device()) {
    TORCH_CHECK_TYPE(r.scalar_type() != at::kDouble, "r must be Float or BFloat16 on a GPU, not Double");
    for (Tensor* x : {&r, &w, &k, &v, &a, &b}) *x = aligned(*x);
    s0 = aligned(s0);
    if (p) p = p->clamp(0, T).to(at::kInt).contiguous();  // in this order: a wild count must not wrap
  }

  void check_launch(int64_t blocks) const {
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
            stream_of(device),
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

// The gradients that a backward pass got, checked and aligned.
struct Upstream {
  optional<Tensor> dy, dcap, dfinal;

  Upstream(const Call& call, const optional<Tensor>& dy_, const optional<Tensor>& dcap_,
           const optional<Tensor>& dfinal_)
      : dy(aligned(dy_)), dcap(aligned(dcap_)), dfinal(aligned(dfinal_)) {
    if (dy) call.check("dy", *dy, call.r.sizes(), call.r.scalar_type());
    if (dcap) call.check("dcap", *dcap, call.state_sizes(), at::kFloat);
    if (dfinal) call.check("dfinal", *dfinal, call.state_sizes(), at::kFloat);
  }
};

// The chunked kernels, in binding_cuda_v2.cpp.
ForwardResults forward_v2(const CudaCall& call, bool return_final, bool save_checkpoints);
BackwardResults backward_v2(const CudaCall& call, const Upstream& upstream, const Tensor& checkpoints, bool need_ds0);

}  // namespace binding
