// The operator's implementation on a GPU by the chunked kernels: allocation and launches. See binding_cuda.cpp.

#ifdef FSEARCH_CUDA

#include "binding_cuda.h"
#include "wkv7_v2.h"

namespace binding {
namespace {

void check(int error) {
  TORCH_CHECK(error == 0, "the chunked CUDA kernel of wkv7_fs could not run: ", wkv7_v2_error(error));
}

// The memory of a call's chunks: named as in wkv7_v2.h, each [B*H, slots, ...].
struct Chunks {
  const CudaCall& call;
  const Wkv7CudaInputs in;
  const int64_t heads, slots, L, saved;

  explicit Chunks(const CudaCall& call)
      : call(call), in(call.inputs()), heads(call.B * call.H), slots(wkv7_v2_slots(&in)),
        L(in.sigmoid ? kWkv7V2SigmoidChunk : kWkv7V2ExpChunk),
        saved((slots * L + kWkv7V2CheckpointEvery - 1) / kWkv7V2CheckpointEvery) {
    TORCH_CHECK_TYPE(in.is_bf16, "r must be BFloat16 for the chunked kernel, not ", call.r.scalar_type());
    TORCH_CHECK_VALUE(call.N == 64 || call.N == 128, "r must have a head size of 64 or 128 for the chunked kernel");
    call.check_launch(heads * slots * (call.N / 64));
    TORCH_CHECK_VALUE(call.T < 1 << 30, "r has ", call.T, " tokens, more than the chunked kernel can count");
  }
  Tensor bf16(int64_t count, int64_t rows, int64_t columns) const {
    return at::empty({heads, count, rows, columns}, call.r.options());
  }
  Tensor wide() const { return bf16(slots, L, call.N); }
  Tensor narrow() const { return bf16(slots, L, L); }
  Tensor states(int64_t count) const { return bf16(count, call.N, call.N); }
  Tensor keep() const { return call.states({heads, slots, call.N}); }
};

}  // namespace

ForwardResults forward_v2(const CudaCall& call, bool return_final, bool save_checkpoints) {
  const Chunks chunks(call);
  const Tensor y = at::empty(call.r.sizes(), call.r.options());
  const Tensor cap = call.p ? call.states() : call.nothing();
  const Tensor final_state = return_final ? call.states() : call.nothing();
  const Tensor checkpoints = chunks.states(save_checkpoints ? chunks.saved : 0);
  const Tensor w = chunks.wide(), u = chunks.wide(), k = chunks.wide(), b = chunks.wide(), r = chunks.wide();
  const Tensor m_rk = chunks.narrow(), m_rb = chunks.narrow(), keep = chunks.keep();
  const Wkv7V2Side forward = {data<void>(w), data<void>(u),    data<void>(k),   data<void>(b),
                              data<void>(r), data<void>(m_rk), data<void>(m_rb)};
  const Wkv7V2Chunks work = {forward, {}, data<float>(keep)};
  const Wkv7V2Outputs out = {data<void>(y), data<float>(cap), data<float>(final_state), data<void>(checkpoints)};
  check(wkv7_v2_forward(&chunks.in, &work, &out));
  return {y, cap, final_state, checkpoints};
}

BackwardResults backward_v2(const CudaCall& call, const Upstream& upstream, const Tensor& checkpoints, bool need_ds0) {
  const Chunks chunks(call);
  call.check("checkpoints", checkpoints, {chunks.heads, chunks.saved, call.N, call.N}, at::kBFloat16);
  const auto like = [](const Tensor& x) { return at::empty(x.sizes(), x.options()); };
  const Tensor dr = like(call.r), dw = like(call.w), dk = like(call.k), dv = like(call.v), da = like(call.a),
               db = like(call.b), ds0 = need_ds0 ? call.states() : call.nothing();
  const Tensor w = chunks.wide(), u = chunks.wide(), k = chunks.wide(), b = chunks.wide();
  const Tensor w_2 = chunks.wide(), z = chunks.wide(), r = chunks.wide(), a = chunks.wide();
  const Tensor m_rk = chunks.narrow(), m_ak = chunks.narrow(), keep = chunks.keep();
  const Tensor states = chunks.states(chunks.slots), adjoints = chunks.states(chunks.slots);
  const Wkv7V2Side forward = {data<void>(w), data<void>(u), data<void>(k), data<void>(b), nullptr, nullptr, nullptr};
  const Wkv7V2Side backward = {data<void>(w_2), data<void>(z),    data<void>(r),   data<void>(a),
                               data<void>(k),   data<void>(m_rk), data<void>(m_ak)};
  const Wkv7V2Chunks work = {forward, backward, data<float>(keep)};
  const Wkv7V2Upstream out = {upstream.dy ? upstream.dy->const_data_ptr() : nullptr,
                              pointer<float>(upstream.dcap),
                              pointer<float>(upstream.dfinal),
                              data<void>(checkpoints),
                              data<void>(states),
                              data<void>(adjoints),
                              data<void>(dr),
                              data<void>(dw),
                              data<void>(dk),
                              data<void>(dv),
                              data<void>(da),
                              data<void>(db),
                              data<float>(ds0)};
  check(wkv7_v2_backward(&chunks.in, &work, &out));
  return {dr, dw, dk, dv, da, db, ds0};
}

}  // namespace binding

#endif
