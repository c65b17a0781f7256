// Future-Seed preparation on a CPU. Every sum has one fixed order, so results do not depend on threads or other heads.

#include "future_seed.h"

#include <cmath>

namespace future_seed {
namespace {

// The sum of term(i) for i in [begin, end): lanes that the compiler turns into vectors, over blocks that are added
// pairwise, so that rounding errors do not grow with the matrix.
template <class scalar, class Term>
scalar sum(int64_t begin, int64_t end, const Term& term) {
  constexpr int kLanes = 128 / sizeof(scalar), kBlock = 32 * kLanes;
  if (end - begin > kBlock) {
    const int64_t middle = begin + (end - begin) / 2 / kLanes * kLanes;
    return sum<scalar>(begin, middle, term) + sum<scalar>(middle, end, term);
  }
  scalar lanes[kLanes] = {};
  for (int64_t i = begin; i < end; i += kLanes)
    for (int l = 0; l < kLanes; ++l) lanes[l] += term(i + l);
  for (int half = kLanes / 2; half >= 1; half /= 2)
    for (int l = 0; l < half; ++l) lanes[l] += lanes[l + half];
  return lanes[0];
}

// One head. A NaN stays a NaN in every comparison.
template <class scalar>
struct Head {
  const int64_t n;
  const scalar* const C;
  const scalar gate, clip;
  scalar scale = 1;       // C^ = scale C
  bool at_floor = false;  // of the rms

  Head(const Inputs<scalar>& in, int64_t head)
      : n(in.N * in.N), C(in.captured + head * n), gate(in.gate[head]), clip(in.clip) {
    if (!in.norm) return;
    const scalar rms = std::sqrt(sum<scalar>(0, n, [this](int64_t i) { return C[i] * C[i]; }) / scalar(n));
    at_floor = rms < scalar(kRmsFloor);
    scale = 1 / (at_floor ? scalar(kRmsFloor) : rms);
  }

  void forward(scalar* seed) const {
    for (int64_t i = 0; i < n; ++i) {
      const scalar z = gate * (scale * C[i]);
      seed[i] = z < -clip ? -clip : z > clip ? clip : z;
    }
  }

  void backward(const scalar* dseed, bool norm, scalar* dC, scalar* dgate) const {
    const auto dz = [&](int64_t i) {
      const scalar z = gate * (scale * C[i]), d = dseed[i];  // read in any case: a branch could not be vectorised
      return (z >= -clip) & (z <= clip) ? d : scalar(0);
    };
    const bool through_rms = norm && !at_floor;
    scalar dm = 0;
    if (dgate || through_rms) dm = sum<scalar>(0, n, [&](int64_t i) { return dz(i) * (scale * C[i]); });
    if (dgate) *dgate = dm;
    if (!dC) return;
    const scalar mean = through_rms ? gate * dm / scalar(n) : scalar(0);  // of dC^ C^
    for (int64_t i = 0; i < n; ++i) dC[i] = (gate * dz(i) - scale * C[i] * mean) * scale;
  }
};

}  // namespace

template <class scalar>
void forward(const Inputs<scalar>& in, scalar* seed, int64_t begin, int64_t end) {
  for (int64_t head = begin; head < end; ++head) Head<scalar>(in, head).forward(seed + head * in.N * in.N);
}

template <class scalar>
void backward(const Inputs<scalar>& in, const scalar* dseed, const Gradients<scalar>& out, int64_t begin, int64_t end) {
  for (int64_t head = begin; head < end; ++head) {
    const int64_t at = head * in.N * in.N;
    Head<scalar>(in, head).backward(dseed + at, in.norm, out.dcaptured ? out.dcaptured + at : nullptr,
                                    out.dgate ? out.dgate + head : nullptr);
  }
}

template void forward(const Inputs<float>&, float*, int64_t, int64_t);
template void forward(const Inputs<double>&, double*, int64_t, int64_t);
template void backward(const Inputs<float>&, const float*, const Gradients<float>&, int64_t, int64_t);
template void backward(const Inputs<double>&, const double*, const Gradients<double>&, int64_t, int64_t);

}  // namespace future_seed
