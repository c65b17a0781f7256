// The small operators of a layer on a CPU. Compiled once per instruction set, with -DWKV7_ISA=<name> and
// -DWKV7_VECTOR_BYTES=<register width>. Every sum has one fixed order, so results do not depend on threads or other rows.

#include "fused.h"

#include "cpu_lanes.h"

#if !defined(WKV7_ISA) || !defined(WKV7_VECTOR_BYTES)
#error "compile with -DWKV7_ISA=generic|avx2 and -DWKV7_VECTOR_BYTES=16|32"
#endif

namespace fused {
namespace {

template <class scalar>
using L = cpu::Lanes<scalar, WKV7_VECTOR_BYTES / int(sizeof(scalar))>;

template <class scalar>
INLINE auto read(const scalar* from) {
  return L<scalar>::load(from);
}
template <class scalar>
INLINE void write(scalar* to, typename L<scalar>::vec x) {
  L<scalar>::store(to, x);
}

using FloatLanes = L<float>;
constexpr int kFloats = WKV7_VECTOR_BYTES / int(sizeof(float));
typedef uint16_t HalfWords __attribute__((vector_size(kFloats * sizeof(uint16_t))));
typedef uint32_t Words __attribute__((vector_size(kFloats * sizeof(uint32_t))));

INLINE auto read(const bf16* from) {
  HalfWords bits;
  __builtin_memcpy(&bits, from, sizeof bits);
  return (FloatLanes::vec)(__builtin_convertvector(bits, Words) << 16);
}
// The bits of bf16. To nearest, ties to even; a NaN stays one.
INLINE Words bf16_bits(FloatLanes::vec x) {
  const Words bits = (Words)x;
  return x == x ? (bits + 0x7fff + (bits >> 16 & 1)) >> 16 : Words{} + 0x7fc0;
}
INLINE void write(bf16* to, FloatLanes::vec x) {
  const HalfWords bits = __builtin_convertvector(bf16_bits(x), HalfWords);
  __builtin_memcpy(to, &bits, sizeof bits);
}

// x with the precision of rows of type io.
template <class io, class vec>
INLINE vec rounded(vec x) {
  if constexpr (sizeof(io) == sizeof(bf16))
    return (vec)(bf16_bits(x) << 16);
  else
    return x;
}

INLINE float root(float x) { return __builtin_sqrtf(x); }
INLINE double root(double x) { return __builtin_sqrt(x); }

// What all passes over rows of one type share.
template <class io>
struct Pass {
  using scalar = scalar_of<io>;
  using vec = typename L<scalar>::vec;
  static constexpr int64_t VW = WKV7_VECTOR_BYTES / int64_t(sizeof(scalar));

  static INLINE scalar total(vec x) { return L<scalar>::total(x)[0]; }
  static INLINE void add(scalar* to, vec x) { write(to, read(to) + x); }

  // Calls row(m, sums) for the rows of the chunks [begin, end), after the chunk's `count` sums have become 0.
  template <class Row>
  static INLINE void over_chunks(int64_t M, int64_t count, scalar* sums, int64_t begin, int64_t end, const Row& row) {
    for (int64_t chunk = begin; chunk < end; ++chunk) {
      scalar* const mine = sums + chunk * count;
      for (int64_t i = 0; i < count; ++i) mine[i] = 0;
      const int64_t last = (chunk + 1) * kChunk < M ? (chunk + 1) * kChunk : M;
      for (int64_t m = chunk * kChunk; m < last; ++m) row(m, mine);
    }
  }
};

template <class io>
void shift_mix(const ShiftMix<io>& in, const ShiftMixOutputs<io>& result, int64_t begin, int64_t end) {
  using P = Pass<io>;
  for (int64_t m = begin; m < end; ++m)
    for (int64_t c = 0; c < in.C; c += P::VW) {
      const io* const at = in.x + m * in.C + c;
      const auto x = read(at);
      const auto shift = rounded<io>((m % in.T ? read(at - in.C) : typename P::vec{}) - x);
      for (int64_t i = 0; i < in.mixes; ++i)
        write(result.out[i] + m * in.C + c, x + shift * rounded<io>(read(in.mix[i] + c)));
    }
}

template <class io>
void shift_mix_backward(const ShiftMix<io>& in, const ShiftMixGradients<io>& grad, int64_t begin, int64_t end) {
  using P = Pass<io>;
  using vec = typename P::vec;
  P::over_chunks(in.M, in.mixes * in.C, grad.sums, begin, end, [&](int64_t m, auto* sums) {
    const bool has_next = (m + 1) % in.T;
    for (int64_t c = 0; c < in.C; c += P::VW) {
      const int64_t at = m * in.C + c;
      const vec shift = rounded<io>((m % in.T ? read(in.x + at - in.C) : vec{}) - read(in.x + at));
      vec stays = {}, moves = {};
      for (int64_t i = 0; i < in.mixes; ++i) {
        const vec dout = read(grad.dout[i] + at), mix = rounded<io>(read(in.mix[i] + c));
        stays += dout - dout * mix;
        if (has_next) moves += read(grad.dout[i] + at + in.C) * mix;
        P::add(sums + i * in.C + c, dout * shift);
      }
      write(grad.dx + at, stays + moves);
    }
  });
}

// A row's keys in one head, from channel c of the row at `at` on.
template <class io>
struct KeyHead : Pass<io> {
  using typename Pass<io>::scalar, typename Pass<io>::vec;
  using Pass<io>::VW;
  const Keys<io>& in;
  const int64_t at, c;
  scalar by;  // u = by z
  bool at_floor;

  INLINE KeyHead(const Keys<io>& in, int64_t at, int64_t c) : in(in), at(at), c(c) {
    vec squares = {};
    for (int64_t j = 0; j < in.N; j += VW) squares += z(j) * z(j);
    const scalar norm = root(this->total(squares));
    at_floor = norm < scalar(kNormFloor);  // not for a NaN, which stays one
    by = 1 / (at_floor ? scalar(kNormFloor) : norm);
  }
  INLINE vec k(int64_t j) const { return read(in.k + at + j); }
  INLINE vec rate(int64_t j) const { return read(in.rate + at + j); }
  INLINE vec k_k(int64_t j) const { return read(in.k_k + c + j); }
  INLINE vec k_a(int64_t j) const { return read(in.k_a + c + j); }
  INLINE vec z(int64_t j) const { return k(j) * k_k(j); }
  INLINE vec u(int64_t j) const { return z(j) * by; }
};

template <class io>
void keys(const Keys<io>& in, const KeysOutputs<io>& out, int64_t begin, int64_t end) {
  for (int64_t m = begin; m < end; ++m)
    for (int64_t c = 0; c < in.C; c += in.N) {
      const int64_t at = m * in.C + c;
      const KeyHead<io> head(in, at, c);
      for (int64_t j = 0; j < in.N; j += head.VW) {
        const auto u = head.u(j), rate = head.rate(j);
        write(out.forget + at + j, -u);
        write(out.relearn + at + j, u * rate);
        write(out.learn + at + j, head.k(j) * (1 + (rate - 1) * head.k_a(j)));
      }
    }
}

template <class io>
void keys_backward(const Keys<io>& in, const KeysGradients<io>& grad, int64_t begin, int64_t end) {
  using P = Pass<io>;
  using vec = typename P::vec;
  P::over_chunks(in.M, 2 * in.C, grad.sums, begin, end, [&](int64_t m, auto* sums) {
    for (int64_t c = 0; c < in.C; c += in.N) {
      const int64_t at = m * in.C + c;
      const KeyHead<io> head(in, at, c);
      const auto du = [&](int64_t j) __attribute__((always_inline)) {
        return head.rate(j) * read(grad.drelearn + at + j) - read(grad.dforget + at + j);
      };
      vec products = {};
      for (int64_t j = 0; j < in.N; j += P::VW) products += du(j) * head.u(j);
      const auto along = head.at_floor ? 0 : P::total(products);  // a change along u does not survive the division
      for (int64_t j = 0; j < in.N; j += P::VW) {
        const vec k = head.k(j), u = head.u(j), k_a = head.k_a(j), less = head.rate(j) - 1;
        const vec dlearn = read(grad.dlearn + at + j), dz = (du(j) - u * along) * head.by;
        write(grad.dk + at + j, head.k_k(j) * dz + dlearn * (1 + less * k_a));
        write(grad.drate + at + j, u * read(grad.drelearn + at + j) + k * k_a * dlearn);
        P::add(sums + c + j, k * dz);
        P::add(sums + in.C + c + j, k * less * dlearn);
      }
    }
  });
}

// A row's readout in one head, from channel c of the row at `at` on.
template <class io>
struct ReadoutHead : Pass<io> {
  using typename Pass<io>::scalar, typename Pass<io>::vec;
  using Pass<io>::VW;
  const Readout<io>& in;
  const int64_t at, c;
  scalar mean, by, bonus;  // n = by (y - mean)

  INLINE ReadoutHead(const Readout<io>& in, int64_t at, int64_t c) : in(in), at(at), c(c) {
    vec sum = {}, products = {}, squares = {};
    for (int64_t j = 0; j < in.N; j += VW) {
      sum += y(j);
      products += rounded<io>(rounded<io>(r(j) * k(j)) * r_k(j));
    }
    bonus = rounded<io>(L<scalar>::total(products))[0];
    mean = this->total(sum) / scalar(in.N);
    for (int64_t j = 0; j < in.N; j += VW) squares += (y(j) - mean) * (y(j) - mean);
    by = 1 / root(this->total(squares) / scalar(in.N) + in.eps);
  }
  INLINE vec y(int64_t j) const { return read(in.y + at + j); }
  INLINE vec r(int64_t j) const { return read(in.r + at + j); }
  INLINE vec k(int64_t j) const { return read(in.k + at + j); }
  INLINE vec v(int64_t j) const { return read(in.v + at + j); }
  INLINE vec gate(int64_t j) const { return read(in.gate + at + j); }
  INLINE vec r_k(int64_t j) const { return rounded<io>(read(in.r_k + c + j)); }
  INLINE vec weight(int64_t j) const { return read(in.weight + c + j); }
  INLINE vec n(int64_t j) const { return (y(j) - mean) * by; }
  INLINE vec s(int64_t j) const {
    return rounded<io>(rounded<io>(n(j) * weight(j) + read(in.bias + c + j)) + rounded<io>(bonus * v(j)));
  }
};

template <class io>
void readout(const Readout<io>& in, const ReadoutOutputs<io>& result, int64_t begin, int64_t end) {
  for (int64_t m = begin; m < end; ++m)
    for (int64_t c = 0; c < in.C; c += in.N) {
      const int64_t at = m * in.C + c;
      const ReadoutHead<io> head(in, at, c);
      for (int64_t j = 0; j < in.N; j += head.VW) write(result.out + at + j, head.s(j) * head.gate(j));
    }
}

template <class io>
void readout_backward(const Readout<io>& in, const ReadoutGradients<io>& grad, int64_t begin, int64_t end) {
  using P = Pass<io>;
  using vec = typename P::vec;
  P::over_chunks(in.M, 3 * in.C, grad.sums, begin, end, [&](int64_t m, auto* sums) {
    for (int64_t c = 0; c < in.C; c += in.N) {
      const int64_t at = m * in.C + c;
      const ReadoutHead<io> head(in, at, c);
      const auto ds = [&](int64_t j) __attribute__((always_inline)) {
        return head.gate(j) * read(grad.dout + at + j);
      };
      vec with_v = {}, sum = {}, with_n = {};
      for (int64_t j = 0; j < in.N; j += P::VW) {
        const vec d = ds(j), dn = d * head.weight(j);
        with_v += d * head.v(j);
        sum += dn;
        with_n += dn * head.n(j);
      }
      const auto dbonus = P::total(with_v);
      const auto mean = P::total(sum) / in.N, along = P::total(with_n) / in.N;
      for (int64_t j = 0; j < in.N; j += P::VW) {
        const vec d = ds(j), n = head.n(j), r = head.r(j), k = head.k(j), r_k = head.r_k(j);
        write(grad.dgate + at + j, head.s(j) * read(grad.dout + at + j));
        write(grad.dv + at + j, head.bonus * d);
        write(grad.dy + at + j, (d * head.weight(j) - mean - n * along) * head.by);
        write(grad.dr + at + j, dbonus * k * r_k);
        write(grad.dk + at + j, dbonus * r * r_k);
        P::add(sums + c + j, dbonus * r * k);
        P::add(sums + in.C + c + j, n * d);
        P::add(sums + 2 * in.C + c + j, d);
      }
    }
  });
}

template <class io>
INLINE auto positive(const io* from) {
  const auto x = read(from);
  return x < 0 ? x - x : x;  // a NaN stays one
}

template <class io>
void squared_relu(const SquaredRelu<io>& in, const SquaredReluOutputs<io>& out, int64_t begin, int64_t end) {
  for (int64_t at = begin * in.C; at < end * in.C; at += Pass<io>::VW)
    write(out.y + at, positive(in.x + at) * positive(in.x + at));
}

template <class io>
void squared_relu_backward(const SquaredRelu<io>& in, const SquaredReluGradients<io>& grad, int64_t begin,
                           int64_t end) {
  for (int64_t at = begin * in.C; at < end * in.C; at += Pass<io>::VW)
    write(grad.dx + at, 2 * positive(in.x + at) * read(grad.dy + at));
}

template <class io>
constexpr Kernels<io> all = {shift_mix<io>, shift_mix_backward<io>, keys<io>,         keys_backward<io>,
                             readout<io>,   readout_backward<io>,   squared_relu<io>, squared_relu_backward<io>};

}  // namespace

namespace WKV7_ISA {
const AllKernels kernels = {all<float>, all<double>, all<bf16>};
}  // namespace WKV7_ISA

}  // namespace fused
