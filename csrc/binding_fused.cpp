// The torch operators of csrc/fused.h on both devices, and their gradients. Rows are [M,C]; channels have C numbers in any
// shape, in the precision of the rows or of the arithmetic, and so have their gradients.
//
//   fsearch::shift_mix      x [B,T,C] and 1 or 6 mixes -> rows [B*T,C] for each mix
//   fsearch::keys           k, rate and channels k_k, k_a -> forget, relearn, learn
//   fsearch::readout        y, r, k, v, gate and channels r_k, weight, bias -> rows
//   fsearch::squared_relu   rows -> rows
//
// and each with `_backward`: the gradients of the rows in their order, then those of all channels in one tensor [count,C].

#include "binding_fused.h"

#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

namespace {

using at::Tensor;
using at::TensorList;
using binding::channels_in;
using binding::FusedCall;
using binding::operator_of;
using binding::rows_in;
using binding::rows_out;
using binding::Sums;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct ShiftMixCall : FusedCall {
  Tensor x;
  std::vector<Tensor> mixes;

  ShiftMixCall(const Tensor& x_, TensorList mixes_) : FusedCall("shift_mix", x_) {
    TORCH_CHECK_VALUE(x_.dim() == 3, "x must have the shape [B,T,C], not ", x_.sizes());
    TORCH_CHECK_VALUE(mixes_.size() == 1 || mixes_.size() == fused::kMostMixes, "there must be 1 or 6 mixes, not ",
                      mixes_.size());
    x = rows("x", x_);
    for (const Tensor& mix : mixes_) mixes.push_back(channels("mix", mix));
  }
  template <class io>
  fused::ShiftMix<io> inputs() const {
    fused::ShiftMix<io> in = {M, C, x.size(1), int64_t(mixes.size()), rows_in<io>(x), {}};
    for (size_t i = 0; i < mixes.size(); ++i) in.mix[i] = channels_in<io>(mixes[i]);
    return in;
  }
};

std::vector<Tensor> shift_mix(const Tensor& x, TensorList mixes) {
  const ShiftMixCall call(x, mixes);
  std::vector<Tensor> mixed;
  for (size_t i = 0; i < mixes.size(); ++i) mixed.push_back(call.new_rows());
  call.with_type([&](auto rows) {
    using io = typename decltype(rows)::io;
    fused::ShiftMixOutputs<io> out = {};
    for (size_t i = 0; i < mixed.size(); ++i) out.out[i] = rows_out<io>(mixed[i]);
    call.run<io>(&fused::Kernels<io>::shift_mix, call.inputs<io>(), out);
  });
  return mixed;
}

std::tuple<Tensor, Tensor> shift_mix_backward(TensorList douts, const Tensor& x, TensorList mixes) {
  const ShiftMixCall call(x, mixes);
  TORCH_CHECK_VALUE(douts.size() == mixes.size(), "there must be a gradient for each of ", mixes.size(), " mixes");
  std::vector<Tensor> ready;
  for (const Tensor& dout : douts) ready.push_back(call.rows("dout", dout));
  const Tensor dx = call.new_rows();
  const Sums sums = call.new_sums(mixes.size());
  call.with_type([&](auto rows) {
    using io = typename decltype(rows)::io;
    fused::ShiftMixGradients<io> out = {{}, rows_out<io>(dx), rows_out<fused::scalar_of<io>>(sums.of_chunks)};
    for (size_t i = 0; i < ready.size(); ++i) out.dout[i] = rows_in<io>(ready[i]);
    call.run<io>(&fused::Kernels<io>::shift_mix_backward, call.inputs<io>(), out, sums);
  });
  return {dx.view(x.sizes()), sums.total};
}

struct KeysCall : FusedCall {
  Tensor k, rate, k_k, k_a;
  int64_t N;

  KeysCall(const Tensor& k_, const Tensor& rate_, const Tensor& k_k_, const Tensor& k_a_, int64_t N)
      : FusedCall("keys", k_),
        k(rows("k", k_)),
        rate(rows("rate", rate_)),
        k_k(channels("k_k", k_k_)),
        k_a(channels("k_a", k_a_)),
        N(N) {
    check_heads(N);
  }
  template <class io>
  fused::Keys<io> inputs() const {
    return {M, C, N, rows_in<io>(k), rows_in<io>(rate), channels_in<io>(k_k), channels_in<io>(k_a)};
  }
};

std::tuple<Tensor, Tensor, Tensor> keys(const Tensor& k, const Tensor& rate, const Tensor& k_k, const Tensor& k_a,
                                        int64_t head_size) {
  const KeysCall call(k, rate, k_k, k_a, head_size);
  const Tensor forget = call.new_rows(), relearn = call.new_rows(), learn = call.new_rows();
  call.with_type([&](auto rows) {
    using io = typename decltype(rows)::io;
    const fused::KeysOutputs<io> out = {rows_out<io>(forget), rows_out<io>(relearn), rows_out<io>(learn)};
    call.run<io>(&fused::Kernels<io>::keys, call.inputs<io>(), out);
  });
  return {forget, relearn, learn};
}

std::tuple<Tensor, Tensor, Tensor> keys_backward(const Tensor& dforget_, const Tensor& drelearn_, const Tensor& dlearn_,
                                                 const Tensor& k, const Tensor& rate, const Tensor& k_k,
                                                 const Tensor& k_a, int64_t head_size) {
  const KeysCall call(k, rate, k_k, k_a, head_size);
  const Tensor dforget = call.rows("dforget", dforget_), drelearn = call.rows("drelearn", drelearn_);
  const Tensor dlearn = call.rows("dlearn", dlearn_), dk = call.new_rows(), drate = call.new_rows();
  const Sums sums = call.new_sums(2);
  call.with_type([&](auto rows) {
    using io = typename decltype(rows)::io;
    const fused::KeysGradients<io> out = {rows_in<io>(dforget), rows_in<io>(drelearn), rows_in<io>(dlearn),
                                          rows_out<io>(dk),
                                          rows_out<io>(drate),  rows_out<fused::scalar_of<io>>(sums.of_chunks)};
    call.run<io>(&fused::Kernels<io>::keys_backward, call.inputs<io>(), out, sums);
  });
  return {dk, drate, sums.total};
}

struct ReadoutCall : FusedCall {
  Tensor y, r, k, v, gate, r_k, weight, bias;
  int64_t N;
  double eps;

  ReadoutCall(const Tensor& y_, const Tensor& r_, const Tensor& k_, const Tensor& v_, const Tensor& gate_,
              const Tensor& r_k_, const Tensor& weight_, const Tensor& bias_, int64_t N, double eps)
      : FusedCall("readout", y_),
        y(rows("y", y_)),
        r(rows("r", r_)),
        k(rows("k", k_)),
        v(rows("v", v_)),
        gate(rows("gate", gate_)),
        r_k(channels("r_k", r_k_)),
        weight(channels("weight", weight_)),
        bias(channels("bias", bias_)),
        N(N),
        eps(eps) {
    check_heads(N);
  }
  template <class io>
  fused::Readout<io> inputs() const {
    return {M,
            C,
            N,
            fused::scalar_of<io>(eps),
            rows_in<io>(y),
            rows_in<io>(r),
            rows_in<io>(k),
            rows_in<io>(v),
            rows_in<io>(gate),
            channels_in<io>(r_k),
            channels_in<io>(weight),
            channels_in<io>(bias)};
  }
};

Tensor readout(const Tensor& y, const Tensor& r, const Tensor& k, const Tensor& v, const Tensor& gate, const Tensor& r_k,
               const Tensor& weight, const Tensor& bias, int64_t head_size, double eps) {
  const ReadoutCall call(y, r, k, v, gate, r_k, weight, bias, head_size, eps);
  const Tensor result = call.new_rows();
  call.with_type([&](auto rows) {
    using io = typename decltype(rows)::io;
    call.run<io>(&fused::Kernels<io>::readout, call.inputs<io>(), fused::ReadoutOutputs<io>{rows_out<io>(result)});
  });
  return result;
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> readout_backward(
    const Tensor& dout_, const Tensor& y, const Tensor& r, const Tensor& k, const Tensor& v, const Tensor& gate,
    const Tensor& r_k, const Tensor& weight, const Tensor& bias, int64_t head_size, double eps) {
  const ReadoutCall call(y, r, k, v, gate, r_k, weight, bias, head_size, eps);
  const Tensor dout = call.rows("dout", dout_), dy = call.new_rows(), dr = call.new_rows(), dk = call.new_rows(),
               dv = call.new_rows(), dgate = call.new_rows();
  const Sums sums = call.new_sums(3);
  call.with_type([&](auto rows) {
    using io = typename decltype(rows)::io;
    const fused::ReadoutGradients<io> out = {
        rows_in<io>(dout), rows_out<io>(dy), rows_out<io>(dr), rows_out<io>(dk),
        rows_out<io>(dv),  rows_out<io>(dgate), rows_out<fused::scalar_of<io>>(sums.of_chunks)};
    call.run<io>(&fused::Kernels<io>::readout_backward, call.inputs<io>(), out, sums);
  });
  return {dy, dr, dk, dv, dgate, sums.total};
}

template <class io>
fused::SquaredRelu<io> squared_relu_inputs(const FusedCall& call, const Tensor& x) {
  return {call.M, call.C, rows_in<io>(x)};
}

Tensor squared_relu(const Tensor& x_) {
  const FusedCall call("squared_relu", x_);
  const Tensor x = call.rows("x", x_), y = call.new_rows();
  call.with_type([&](auto rows) {
    using io = typename decltype(rows)::io;
    const fused::SquaredReluOutputs<io> out = {rows_out<io>(y)};
    call.run<io>(&fused::Kernels<io>::squared_relu, squared_relu_inputs<io>(call, x), out);
  });
  return y;
}

Tensor squared_relu_backward(const Tensor& dy_, const Tensor& x_) {
  const FusedCall call("squared_relu", x_);
  const Tensor x = call.rows("x", x_), dy = call.rows("dy", dy_), dx = call.new_rows();
  call.with_type([&](auto rows) {
    using io = typename decltype(rows)::io;
    const fused::SquaredReluGradients<io> out = {rows_in<io>(dy), rows_out<io>(dx)};
    call.run<io>(&fused::Kernels<io>::squared_relu_backward, squared_relu_inputs<io>(call, x), out);
  });
  return dx;
}

void refuse_twice(const char* name) {
  TORCH_CHECK(!at::GradMode::is_enabled(), name, " cannot be differentiated twice");
}

// A gradient of channels in the shape and type of the tensor that it is of.
Tensor like(const Tensor& gradient, const Tensor& channels) {
  return gradient.view(channels.sizes()).to(channels.scalar_type());
}

struct ShiftMix : torch::autograd::Function<ShiftMix> {
  static variable_list forward(AutogradContext* ctx, const Tensor& x, TensorList mixes) {
    static const auto op = operator_of("fsearch::shift_mix", &shift_mix);
    const at::AutoDispatchBelowADInplaceOrView below;
    variable_list saved = mixes.vec();
    saved.push_back(x);
    ctx->save_for_backward(saved);
    return op.call(x, mixes);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    refuse_twice("shift_mix");
    static const auto op = operator_of("fsearch::shift_mix_backward", &shift_mix_backward);
    variable_list mixes = ctx->get_saved_variables();
    const Tensor x = mixes.back();
    mixes.pop_back();
    auto [dx, dmixes] = op.call(grads, x, mixes);
    variable_list results = {dx};
    for (size_t i = 0; i < mixes.size(); ++i) results.push_back(like(dmixes[i], mixes[i]));
    return results;
  }
};

struct Keys : torch::autograd::Function<Keys> {
  static variable_list forward(AutogradContext* ctx, const Tensor& k, const Tensor& rate, const Tensor& k_k,
                               const Tensor& k_a, int64_t head_size) {
    static const auto op = operator_of("fsearch::keys", &keys);
    const at::AutoDispatchBelowADInplaceOrView below;
    ctx->save_for_backward({k, rate, k_k, k_a});
    ctx->saved_data["head_size"] = head_size;
    auto [forget, relearn, learn] = op.call(k, rate, k_k, k_a, head_size);
    return {forget, relearn, learn};
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    refuse_twice("keys");
    static const auto op = operator_of("fsearch::keys_backward", &keys_backward);
    const variable_list saved = ctx->get_saved_variables();
    auto [dk, drate, sums] = op.call(grads[0], grads[1], grads[2], saved[0], saved[1], saved[2], saved[3],
                                     ctx->saved_data["head_size"].toInt());
    return {dk, drate, like(sums[0], saved[2]), like(sums[1], saved[3]), Tensor()};
  }
};

struct Readout : torch::autograd::Function<Readout> {
  static Tensor forward(AutogradContext* ctx, const Tensor& y, const Tensor& r, const Tensor& k, const Tensor& v,
                        const Tensor& gate, const Tensor& r_k, const Tensor& weight, const Tensor& bias,
                        int64_t head_size, double eps) {
    static const auto op = operator_of("fsearch::readout", &readout);
    const at::AutoDispatchBelowADInplaceOrView below;
    ctx->save_for_backward({y, r, k, v, gate, r_k, weight, bias});
    ctx->saved_data["head_size"] = head_size;
    ctx->saved_data["eps"] = eps;
    return op.call(y, r, k, v, gate, r_k, weight, bias, head_size, eps);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    refuse_twice("readout");
    static const auto op = operator_of("fsearch::readout_backward", &readout_backward);
    const variable_list saved = ctx->get_saved_variables();
    auto [dy, dr, dk, dv, dgate, sums] =
        op.call(grads[0], saved[0], saved[1], saved[2], saved[3], saved[4], saved[5], saved[6], saved[7],
                ctx->saved_data["head_size"].toInt(), ctx->saved_data["eps"].toDouble());
    return {dy,       dr, dk, dv, dgate, like(sums[0], saved[5]), like(sums[1], saved[6]), like(sums[2], saved[7]),
            Tensor(), Tensor()};
  }
};

struct SquaredRelu : torch::autograd::Function<SquaredRelu> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x) {
    static const auto op = operator_of("fsearch::squared_relu", &squared_relu);
    const at::AutoDispatchBelowADInplaceOrView below;
    ctx->save_for_backward({x});
    return op.call(x);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    refuse_twice("squared_relu");
    static const auto op = operator_of("fsearch::squared_relu_backward", &squared_relu_backward);
    return {op.call(grads[0], ctx->get_saved_variables()[0])};
  }
};

std::vector<Tensor> shift_mix_with_gradient(const Tensor& x, TensorList mixes) { return ShiftMix::apply(x, mixes); }

std::tuple<Tensor, Tensor, Tensor> keys_with_gradient(const Tensor& k, const Tensor& rate, const Tensor& k_k,
                                                      const Tensor& k_a, int64_t head_size) {
  const variable_list results = Keys::apply(k, rate, k_k, k_a, head_size);
  return {results[0], results[1], results[2]};
}

Tensor readout_with_gradient(const Tensor& y, const Tensor& r, const Tensor& k, const Tensor& v, const Tensor& gate,
                             const Tensor& r_k, const Tensor& weight, const Tensor& bias, int64_t head_size,
                             double eps) {
  return Readout::apply(y, r, k, v, gate, r_k, weight, bias, head_size, eps);
}

Tensor squared_relu_with_gradient(const Tensor& x) { return SquaredRelu::apply(x); }

void register_on_device(torch::Library& m) {
  m.impl("shift_mix", shift_mix);
  m.impl("shift_mix_backward", shift_mix_backward);
  m.impl("keys", keys);
  m.impl("keys_backward", keys_backward);
  m.impl("readout", readout);
  m.impl("readout_backward", readout_backward);
  m.impl("squared_relu", squared_relu);
  m.impl("squared_relu_backward", squared_relu_backward);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(fsearch, m) {
  m.def("shift_mix(Tensor x, Tensor[] mixes) -> Tensor[]");
  m.def("shift_mix_backward(Tensor[] douts, Tensor x, Tensor[] mixes) -> (Tensor, Tensor)");
  m.def(
      "keys(Tensor k, Tensor rate, Tensor k_k, Tensor k_a, int head_size) -> (Tensor, Tensor, Tensor)");
  m.def(
      "keys_backward(Tensor dforget, Tensor drelearn, Tensor dlearn, Tensor k, Tensor rate, Tensor k_k, Tensor k_a, "
      "int head_size) -> (Tensor, Tensor, Tensor)");
  m.def(
      "readout(Tensor y, Tensor r, Tensor k, Tensor v, Tensor gate, Tensor r_k, Tensor weight, Tensor bias, "
      "int head_size, float eps) -> Tensor");
  m.def(
      "readout_backward(Tensor dout, Tensor y, Tensor r, Tensor k, Tensor v, Tensor gate, Tensor r_k, Tensor weight, "
      "Tensor bias, int head_size, float eps) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def("squared_relu(Tensor x) -> Tensor");
  m.def("squared_relu_backward(Tensor dy, Tensor x) -> Tensor");
}

TORCH_LIBRARY_IMPL(fsearch, CPU, m) { register_on_device(m); }

#ifdef FSEARCH_CUDA
TORCH_LIBRARY_IMPL(fsearch, CUDA, m) { register_on_device(m); }
#endif

TORCH_LIBRARY_IMPL(fsearch, Autograd, m) {
  m.impl("shift_mix", shift_mix_with_gradient);
  m.impl("keys", keys_with_gradient);
  m.impl("readout", readout_with_gradient);
  m.impl("squared_relu", squared_relu_with_gradient);
}
