// Vectors of lanes for CPU kernels that are compiled once per instruction set.
//
// Everything here has internal linkage and no standard template is used but for types: the linker would keep one copy of
// an inline function for all instruction sets, and it might be one that the machine cannot run.
#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

#define INLINE inline __attribute__((always_inline))

namespace cpu {
namespace {

// A vector of VW lanes. A type wider than the target's registers would be split through memory: about 10 times slower.
template <class scalar, int VW>
struct Lanes {
  using integer = std::conditional_t<sizeof(scalar) == 4, int32_t, int64_t>;
  typedef scalar vec __attribute__((vector_size(VW * sizeof(scalar))));
  typedef integer ivec __attribute__((vector_size(VW * sizeof(scalar))));

  static INLINE vec load(const scalar* from) {
    vec x;
    __builtin_memcpy(&x, from, sizeof x);
    return x;
  }
  static INLINE void store(scalar* to, vec x) { __builtin_memcpy(to, &x, sizeof x); }

  // Lane l is x[l] where bit `half` of l is clear, y[l] where it is set; with `crossed`, the lane l ^ half of either.
  template <int half, bool crossed, int... L>
  static INLINE vec blend(vec x, vec y, std::integer_sequence<int, L...>) {
#if defined(__clang__)
    return __builtin_shufflevector(x, y, ((L & half) ? VW : 0) + (crossed ? L ^ half : L)...);
#else
    return __builtin_shuffle(x, y, ivec{(((L & half) ? VW : 0) + (crossed ? L ^ half : L))...});
#endif
  }

  // Lane l of the result is the sum of the lanes of x[l]: a transposing tree, 3 instructions per vector.
  template <int half = VW / 2>
  static INLINE vec sums(vec (&x)[VW]) {
    if constexpr (half == 0) {
      return x[0];
    } else {
      constexpr auto lanes = std::make_integer_sequence<int, VW>{};
#pragma GCC unroll 16
      for (int m = 0; m < half; ++m)
        x[m] = blend<half, false>(x[m], x[m + half], lanes) + blend<half, true>(x[m], x[m + half], lanes);
      return sums<half / 2>(x);
    }
  }

  // Each lane of the result is the sum of all lanes of x, by a tree of one shape.
  template <int half = VW / 2>
  static INLINE vec total(vec x) {
    if constexpr (half == 0)
      return x;
    else
      return total<half / 2>(x + blend<half, true>(x, x, std::make_integer_sequence<int, VW>{}));
  }

  // exp by x = n log 2 + f, |f| <= log(2)/2, and the Taylor series of f up to rounding. 0 below the smallest normal
  // number; a NaN stays a NaN. The caller keeps x below the overflow. A library's exp is not used because it treats
  // the last elements of an array in another way than the others, so that a value would depend on its place.
  static INLINE vec exp(vec x) {
    constexpr bool single = sizeof(scalar) == 4;
    constexpr int mantissa_bits = single ? 23 : 52, degree = single ? 7 : 13;
    constexpr scalar lowest = single ? scalar(-87.3) : scalar(-708.3);
    constexpr scalar log2_high = single ? scalar(0.693359375) : scalar(6.93147180369123816490e-01);
    constexpr scalar log2_low = single ? scalar(-2.12194440e-4) : scalar(1.90821492927058770002e-10);
    constexpr scalar to_integer = scalar(3ll << (mantissa_bits - 1));  // adding it leaves n in the last bits
    const vec held = x < lowest ? vec{} + lowest : x;
    const vec shifted = held * scalar(1.44269504088896340736) + to_integer;
    const vec n = shifted - to_integer;
    const vec f = (held - n * log2_high) - n * log2_low;
    vec series = vec{} + 1;
#pragma GCC unroll 16
    for (int i = degree; i >= 1; --i) series = 1 + series * f * (scalar(1) / scalar(i));
    const ivec power = (ivec)shifted << mantissa_bits;  // n in the exponent's bits
    const vec result = (vec)((ivec)series + power);
    return x < lowest ? vec{} : result;
  }
};

}  // namespace
}  // namespace cpu
