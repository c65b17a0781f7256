// The decay of the WKV7 operator and its derivative, for any value type: a scalar, or a vector of lanes.
// What depends on the target (the exponential) is passed in, so that CPU and GPU share the formulas.
#pragma once

#if defined(__CUDACC__)
#define WKV7_INLINE __device__ __forceinline__
#else
#define WKV7_INLINE inline __attribute__((always_inline))
#endif

namespace wkv7 {

constexpr double kDecayScale = 0.60653065971263342;  // exp(-1/2)

// Of the raw input x: the logarithm of its decay, and that logarithm's derivative with respect to x.
template <class V>
struct LogDecay {
  V log;
  V slope;
};

// d is the decay of the raw input x; slope is d(log d)/dx, so that dL/dx = dL/dd * d * slope.
template <class V>
struct Decay {
  V d;
  V slope;
};

template <class V>
WKV7_INLINE V at_most(V x, V limit) {
  return x > limit ? limit : x;  // a NaN stays a NaN
}

// log d = -exp(-1/2) sigmoid(x). sigmoid(-x) is computed as e/(1+e): 1 - sigmoid(x) would lose its digits.
template <class V, class Exp>
WKV7_INLINE LogDecay<V> sigmoid_log_decay(V x, Exp exp, V scale) {
  const V one = V{} + 1;
  const V e = exp(at_most(-x, V{} + 80));  // beyond 80 sigmoid(x) is 0 in the sum below, and exp might overflow
  const V sigmoid = one / (one + e);
  return {-scale * sigmoid, -scale * sigmoid * (e * sigmoid)};
}

// log d = -exp(x). From x = 10 on d is 0 in every precision; holding x there keeps 0 * infinity out of dx.
template <class V, class Exp>
WKV7_INLINE LogDecay<V> exp_log_decay(V x, Exp exp) {
  const V log_d = -exp(at_most(x, V{} + 10));
  return {log_d, log_d};
}

template <class V, class Exp>
WKV7_INLINE Decay<V> sigmoid_decay(V x, Exp exp, V scale) {
  const LogDecay<V> decay = sigmoid_log_decay(x, exp, scale);
  return {exp(decay.log), decay.slope};
}

template <class V, class Exp>
WKV7_INLINE Decay<V> exp_decay(V x, Exp exp) {
  const LogDecay<V> decay = exp_log_decay(x, exp);
  return {exp(decay.log), decay.slope};
}

}  // namespace wkv7
