// The CPU kernel. Compiled once per instruction set, with -DWKV7_ISA=<name> and -DWKV7_VECTOR_BYTES=<register width>.
//
// A state is kept key-major, S[j][i] with the value index i contiguous, and everything is vectorised over i, so that
// both products with the state are sums of vectors. Only the key-side gradients sum over i: `sums` does a whole vector
// of them at once. Every sum has one fixed order, so results do not depend on threads or on the other heads.
//
// Everything here has internal linkage and no standard template is used: the linker would keep one copy of an inline
// function for all instruction sets, and it might be one that the machine cannot run.

#include "wkv7_cpu.h"

#include <new>

#include "cpu_lanes.h"
#include "wkv7_math.h"

#if !defined(WKV7_ISA) || !defined(WKV7_VECTOR_BYTES)
#error "compile with -DWKV7_ISA=generic|avx2|avx512 and -DWKV7_VECTOR_BYTES=16|32|64"
#endif

namespace wkv7 {
namespace {

using cpu::Lanes;

// Lanes and the decay of what they hold. The return type is deduced because GCC drops the vector attribute of a dependent
// template argument.
template <class scalar, int VW>
struct DecayLanes : Lanes<scalar, VW> {
  using vec = typename Lanes<scalar, VW>::vec;

  static INLINE auto decay(vec x, bool sigmoid) {
    const auto e = [](vec z) __attribute__((always_inline)) { return Lanes<scalar, VW>::exp(z); };
    return sigmoid ? sigmoid_decay(x, e, vec{} + scalar(kDecayScale)) : exp_decay(x, e);
  }
};

// One head: its recurrence forwards and backwards.
template <class scalar, int N>
struct Head {
  static constexpr int kWidth = WKV7_VECTOR_BYTES / int(sizeof(scalar)) < N ? WKV7_VECTOR_BYTES / int(sizeof(scalar)) : N;
  static constexpr int NV = N / kWidth;                             // vectors in a row of N values
  static constexpr int kRegisters = WKV7_VECTOR_BYTES == 64 ? 16 : 8;  // half of what the target has
  // Value indices are independent of each other: blocks of them are swept one after another, each small enough for
  // the registers. Several partial sums a block hide the latency of the additions.
  static constexpr int kBlock = NV < kRegisters / 4 ? NV : kRegisters / 4;
  static constexpr int kChains = kRegisters / 2 / kBlock < 4 ? kRegisters / 2 / kBlock : 4;
  static constexpr bool kStateInRegisters = N * NV <= kRegisters;

  using L = DecayLanes<scalar, kWidth>;
  using vec = typename L::vec;
  using Row = vec[NV];  // one key index, all value indices; a state is Row[N]

  struct Token {
    const scalar *r, *k, *v, *a, *b;
    const scalar* d;  // decay
  };

  static INLINE void decays(const scalar* x, bool sigmoid, scalar* d) {
    for (int c = 0; c < NV; ++c) L::store(d + c * kWidth, L::decay(L::load(x + c * kWidth), sigmoid).d);
  }

  static INLINE vec total(const vec (&partial)[kChains]) {
    vec x = partial[0];
    for (int c = 1; c < kChains; ++c) x += partial[c];
    return x;
  }

  // One token: `to` = the state after it, from the state before it (which may be the same memory); u = S a.
  template <bool with_y>
  static INLINE void step(const Row* from, Row* to, const Token& x, Row& u, scalar* y) {
    for (int block = 0; block < NV; block += kBlock) {
      vec partial[kBlock][kChains] = {};
#pragma GCC unroll 16
      for (int j = 0; j < N; ++j)
        for (int i = 0; i < kBlock; ++i) partial[i][j % kChains] += from[j][block + i] * x.a[j];
      vec v[kBlock];
      for (int i = 0; i < kBlock; ++i) {
        u[block + i] = total(partial[i]);
        v[i] = L::load(x.v + (block + i) * kWidth);
        for (vec& sum : partial[i]) sum = vec{};
      }
#pragma GCC unroll 16
      for (int j = 0; j < N; ++j)
        for (int i = 0; i < kBlock; ++i) {
          const vec s = from[j][block + i] * x.d[j] + u[block + i] * x.b[j] + v[i] * x.k[j];
          to[j][block + i] = s;
          if constexpr (with_y) partial[i][j % kChains] += s * x.r[j];
        }
      if constexpr (with_y)
        for (int i = 0; i < kBlock; ++i) L::store(y + (block + i) * kWidth, total(partial[i]));
    }
  }

  static INLINE void copy(Row* to, const Row* from) {
#pragma GCC unroll 16
    for (int j = 0; j < N; ++j)
      for (int c = 0; c < NV; ++c) to[j][c] = from[j][c];
  }

  // States outside are row-major over the value index: transposed on the way in and out. Null reads as zeros.
  static void read(Row* state, const scalar* from) {
    scalar* to = reinterpret_cast<scalar*>(state);
    for (int j = 0; j < N; ++j)
      for (int i = 0; i < N; ++i) to[j * N + i] = from ? from[i * N + j] : scalar(0);
  }
  static void add(Row* state, const scalar* from) {
    scalar* to = reinterpret_cast<scalar*>(state);
    for (int j = 0; j < N; ++j)
      for (int i = 0; i < N; ++i) to[j * N + i] += from[i * N + j];
  }
  static void write(scalar* to, const Row* state) {
    const scalar* from = reinterpret_cast<const scalar*>(state);
    for (int i = 0; i < N; ++i)
      for (int j = 0; j < N; ++j) to[i * N + j] = from[j * N + i];
  }

  // Where a head's tensors lie: token t at first + t * stride.
  const Inputs<scalar>& in;
  const int64_t head, stride = in.H * N, first = (head / in.H * in.T * in.H + head % in.H) * N;
  const int64_t p = in.p ? in.p[head / in.H] : -1;

  Token token(int64_t t, const scalar* d) const {
    const int64_t at = first + t * stride;
    return {in.r + at, in.k + at, in.v + at, in.a + at, in.b + at, d};
  }
  const scalar* initial() const { return in.s0 ? in.s0 + head * N * N : nullptr; }

  // Tokens [begin, end), the state kept in registers where it fits.
  void advance(Row* state, int64_t begin, int64_t end, scalar* y) const {
    Row local[kStateInRegisters ? N : 1];
    Row* S = state;
    if constexpr (kStateInRegisters) copy(S = local, state);
    Row u;
    alignas(64) scalar d[N];
    for (int64_t t = begin; t < end; ++t) {
      decays(in.w + first + t * stride, in.sigmoid, d);
      step<true>(S, S, token(t, d), u, y + first + t * stride);
    }
    if constexpr (kStateInRegisters) copy(state, local);
  }

  void forward(const Outputs<scalar>& out, Row* state) const {
    read(state, initial());
    scalar* checkpoint = out.checkpoints ? out.checkpoints + head * num_checkpoints(in.T) * N * N : nullptr;
    for (int64_t t = 0, end; t < in.T; t = end) {
      if (p == t) write(out.cap + head * N * N, state);
      if (checkpoint && t > 0 && t % kCheckpointEvery == 0) {
        __builtin_memcpy(checkpoint, state, sizeof(Row[N]));
        checkpoint += N * N;
      }
      end = (t / kCheckpointEvery + 1) * kCheckpointEvery;
      if (end > in.T) end = in.T;
      if (p > t && p < end) end = p;
      advance(state, t, end, out.y);
    }
    if (p == in.T) write(out.cap + head * N * N, state);
    if (out.final_state) write(out.final_state + head * N * N, state);
  }

  struct Workspace {
    Row adjoint[N];                                  // of the state
    Row u[kCheckpointEvery];                         // S a of every token of the segment
    alignas(64) scalar d[kCheckpointEvery][N], slope[kCheckpointEvery][N];
    alignas(64) scalar zeros[N];
    Row states[kCheckpointEvery + 1][N];             // before every token of the segment, and after the last
  };

  // With G the adjoint of the state after a token, all uses of that state included:
  //   dr = S^T dy   dv = G k   dk = G^T v   g = G b   db = G^T u   dd = sum_i G S_before   da = S_before^T g
  //   adjoint before the token = G diag(d) + g a^T
  void backward_step(const Gradients<scalar>& out, Workspace& work, int64_t t, int64_t m) const {
    const int64_t at = first + t * stride;
    const Token x = token(t, work.d[m]);
    const scalar* dy_t = out.dy ? out.dy + at : work.zeros;
    const Row *before = work.states[m], *after = work.states[m + 1];
    Row *G = work.adjoint, &u = work.u[m];
    Row g, dy, v;
    for (int c = 0; c < NV; ++c) {
      dy[c] = L::load(dy_t + c * kWidth);
      v[c] = L::load(x.v + c * kWidth);
    }
    for (int block = 0; block < NV; block += kBlock) {
      vec sum_g[kBlock][kChains] = {}, sum_dv[kBlock][kChains] = {};
#pragma GCC unroll 16
      for (int j = 0; j < N; ++j)
        for (int i = 0; i < kBlock; ++i) {
          const vec e = G[j][block + i] + dy[block + i] * x.r[j];
          G[j][block + i] = e;
          sum_g[i][j % kChains] += e * x.b[j];
          sum_dv[i][j % kChains] += e * x.k[j];
        }
      for (int i = 0; i < kBlock; ++i) {
        g[block + i] = total(sum_g[i]);
        L::store(out.dv + at + (block + i) * kWidth, total(sum_dv[i]));
      }
    }
    for (int block = 0; block < N; block += kWidth) {  // of key indices
      const auto over_values = [&](auto term) __attribute__((always_inline)) {
        vec terms[kWidth];
#pragma GCC unroll 16
        for (int l = 0; l < kWidth; ++l) {
          terms[l] = term(block + l, 0);
          for (int c = 1; c < NV; ++c) terms[l] += term(block + l, c);
        }
        return L::sums(terms);
      };
      L::store(out.dr + at + block, over_values([&](int j, int c) { return after[j][c] * dy[c]; }));
      L::store(out.dk + at + block, over_values([&](int j, int c) { return G[j][c] * v[c]; }));
      L::store(out.db + at + block, over_values([&](int j, int c) { return G[j][c] * u[c]; }));
      L::store(out.da + at + block, over_values([&](int j, int c) { return before[j][c] * g[c]; }));
      const vec dd = over_values([&](int j, int c) { return G[j][c] * before[j][c]; });
      L::store(out.dw + at + block, dd * L::load(work.d[m] + block) * L::load(work.slope[m] + block));
    }
#pragma GCC unroll 16
    for (int j = 0; j < N; ++j)
      for (int c = 0; c < NV; ++c) G[j][c] = G[j][c] * x.d[j] + g[c] * x.a[j];
  }

  void backward(const Gradients<scalar>& out, Workspace& work) const {
    for (scalar& zero : work.zeros) zero = 0;
    read(work.adjoint, out.dfinal ? out.dfinal + head * N * N : nullptr);
    const scalar* dcap = out.dcap ? out.dcap + head * N * N : nullptr;
    for (int64_t segment = num_checkpoints(in.T); segment >= 0; --segment) {
      const int64_t begin = segment * kCheckpointEvery;
      const int64_t count = in.T - begin < kCheckpointEvery ? in.T - begin : kCheckpointEvery;
      if (segment == 0)
        read(work.states[0], initial());
      else
        __builtin_memcpy(work.states[0], out.checkpoints + (head * num_checkpoints(in.T) + segment - 1) * N * N,
                         sizeof(Row[N]));
      for (int64_t m = 0; m < count; ++m) {
        const scalar* w = in.w + first + (begin + m) * stride;
        for (int c = 0; c < NV; ++c) {
          const auto decay = L::decay(L::load(w + c * kWidth), in.sigmoid);
          L::store(work.d[m] + c * kWidth, decay.d);
          L::store(work.slope[m] + c * kWidth, decay.slope);
        }
        step<false>(work.states[m], work.states[m + 1], token(begin + m, work.d[m]), work.u[m], nullptr);
      }
      for (int64_t m = count - 1; m >= 0; --m) {
        if (dcap && p == begin + m + 1) add(work.adjoint, dcap);
        backward_step(out, work, begin + m, m);
      }
    }
    if (dcap && p == 0) add(work.adjoint, dcap);
    if (out.ds0) write(out.ds0 + head * N * N, work.adjoint);
  }
};

template <class T>
struct Memory {  // uninitialised, aligned for the widest vectors
  T* const at = static_cast<T*>(::operator new(sizeof(T), std::align_val_t(64)));
  ~Memory() { ::operator delete(at, std::align_val_t(64)); }
};

template <class scalar, int N>
void forward_heads(const Inputs<scalar>& in, const Outputs<scalar>& out, int64_t begin, int64_t end) {
  using H = Head<scalar, N>;
  const Memory<typename H::Row[N]> state;
  for (int64_t head = begin; head < end; ++head) H{in, head}.forward(out, *state.at);
}

template <class scalar, int N>
void backward_heads(const Inputs<scalar>& in, const Gradients<scalar>& out, int64_t begin, int64_t end) {
  using H = Head<scalar, N>;
  const Memory<typename H::Workspace> work;
  for (int64_t head = begin; head < end; ++head) H{in, head}.backward(out, *work.at);
}

template <class scalar>
bool forward(int64_t N, const Inputs<scalar>& in, const Outputs<scalar>& out, int64_t begin, int64_t end) {
  switch (N) {
    case 8: return forward_heads<scalar, 8>(in, out, begin, end), true;
    case 16: return forward_heads<scalar, 16>(in, out, begin, end), true;
    case 32: return forward_heads<scalar, 32>(in, out, begin, end), true;
    case 64: return forward_heads<scalar, 64>(in, out, begin, end), true;
    case 128: return forward_heads<scalar, 128>(in, out, begin, end), true;
    default: return false;
  }
}

template <class scalar>
bool backward(int64_t N, const Inputs<scalar>& in, const Gradients<scalar>& out, int64_t begin, int64_t end) {
  switch (N) {
    case 8: return backward_heads<scalar, 8>(in, out, begin, end), true;
    case 16: return backward_heads<scalar, 16>(in, out, begin, end), true;
    case 32: return backward_heads<scalar, 32>(in, out, begin, end), true;
    case 64: return backward_heads<scalar, 64>(in, out, begin, end), true;
    case 128: return backward_heads<scalar, 128>(in, out, begin, end), true;
    default: return false;
  }
}

}  // namespace

namespace WKV7_ISA {
const Kernels<float> floats = {forward<float>, backward<float>};
const Kernels<double> doubles = {forward<double>, backward<double>};
}  // namespace WKV7_ISA

}  // namespace wkv7
