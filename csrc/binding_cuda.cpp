// The operator's implementation on a GPU by the sequential kernels: allocation and launches. See binding.cpp; the chunked
// ones are in binding_cuda_v2.cpp.
//
// Nothing of torch's CUDA headers or libraries is used, so that this builds against any torch: the device and its
// current stream come through the interface that all of torch's devices share, and the kernels take plain pointers.

#ifdef FSEARCH_CUDA

#include "binding_cuda.h"

#include <ATen/ops/zeros.h>
#include <torch/library.h>

namespace {

using binding::BackwardResults;
using binding::CudaCall;
using binding::data;
using binding::ForwardResults;
using binding::pointer;
using binding::Upstream;
using at::Tensor;
using std::optional;

void check(int error) {
  TORCH_CHECK(error == 0, "the CUDA kernel of wkv7_fs could not run: ", wkv7_cuda_error(error));
}

int64_t num_checkpoints(int64_t T) { return (T + kWkv7CudaCheckpointEvery - 1) / kWkv7CudaCheckpointEvery; }

ForwardResults forward(const Tensor& r, const Tensor& w, const Tensor& k, const Tensor& v, const Tensor& a,
                       const Tensor& b, const optional<Tensor>& s0, const optional<Tensor>& p, bool sigmoid,
                       bool return_final, bool save_checkpoints, bool chunked) {
  const CudaCall call(r, w, k, v, a, b, s0, p, sigmoid);
  if (chunked) return binding::forward_v2(call, return_final, save_checkpoints);
  call.check_launch(call.B * call.H * wkv7_cuda_panels(call.N));
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
                         const Tensor& checkpoints, bool sigmoid, bool need_ds0, bool chunked) {
  const CudaCall call(r, w, k, v, a, b, s0, p, sigmoid);
  const Upstream upstream(call, dy, dcap, dfinal);
  if (chunked) return binding::backward_v2(call, upstream, checkpoints, need_ds0);
  const int64_t heads = call.B * call.H, T = call.T, N = call.N;
  call.check_launch(heads * wkv7_cuda_panels(N));
  call.check("checkpoints", checkpoints, {heads, num_checkpoints(T), N, N}, at::kFloat);
  const auto like = [](const Tensor& x) { return at::empty(x.sizes(), x.options()); };
  const Tensor dr = like(call.r), dw = like(call.w), dk = like(call.k), dv = like(call.v), da = like(call.a),
               db = like(call.b);
  const Tensor adjoint = dfinal ? dfinal->clone(at::MemoryFormat::Contiguous)
                                : at::zeros(call.state_sizes(), call.r.options().dtype(at::kFloat));
  const Tensor states = call.states({heads, kWkv7CudaCheckpointEvery / kWkv7CudaSegment, N, N});
  const Tensor partials = call.states({heads, kWkv7CudaCheckpointEvery, wkv7_cuda_panels(N), 5, N});
  const Wkv7CudaInputs in = call.inputs();
  const Wkv7CudaGradients out = {upstream.dy ? upstream.dy->const_data_ptr() : nullptr,
                                 pointer<float>(upstream.dcap),
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
