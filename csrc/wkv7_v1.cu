// The sequential CUDA kernels of the WKV7 operator: fp32 arithmetic, any length, no atomics, one fixed order in every
// sum. A result depends neither on the rest of the batch nor on what else the device does.
//
// The rows of a state, its value indices, do not know of each other. A block sweeps the tokens for one panel of rows
// of one head and keeps its state in registers. Threads that share a row hold a few key columns each; the products
// with the state, sums over the columns, go through shuffles. Only the key-side gradients sum over rows: every panel
// leaves its share in global memory, and `gather` adds the shares in their order.
//
// The backward pass goes through the tokens in slabs, from the last to the first. For each, `forward` runs again from
// the saved state and leaves a state every few tokens; from one of those, `backward` replays a segment into registers
// and then walks it in reverse. So nothing is divided by a decay, and what is saved for a backward pass is small.

#include "wkv7_cuda.h"

#include "cuda_prims.h"
#include "wkv7_math.h"

namespace {

using namespace prims;
using Inputs = Wkv7CudaInputs;
using Outputs = Wkv7CudaOutputs;
using Gradients = Wkv7CudaGradients;

constexpr int kSlab = kWkv7CudaCheckpointEvery, kSegment = kWkv7CudaSegment;
constexpr int kStaged = 16;  // tokens that `forward` brings to shared memory at a time
enum { kR, kK, kA, kB, kD, kKeySides };  // the key-side vectors of a token; kD is the decay

template <int N>
struct Panel {
  static constexpr int kLanes = N < kWarp ? N : kWarp;         // threads that share a row
  static constexpr int kCols = N / kLanes;                     // columns of a thread
  static constexpr int kRows = N == 8 || N == 128 ? 2 : 4;     // rows of a thread
  static constexpr int kGroups = 4;                            // of threads with the same rows
  static constexpr int kHeight = kGroups * kRows;              // rows of a panel
  static constexpr int kCount = N / kHeight;                   // panels of a head
  static constexpr int kThreads = kGroups * kLanes;
};

// Where a block works, and what a thread holds there.
template <int N>
struct Place {
  using P = Panel<N>;
  const int64_t head = block_index() / P::kCount;  // b * H + h
  const int panel = int(block_index() % P::kCount);
  const int lane = thread_index() % P::kLanes, group = thread_index() / P::kLanes;
  const int row = panel * P::kHeight + group * P::kRows, column = lane * P::kCols;
  const int64_t first, stride;  // token t of a [B,T,H,N] tensor is at first + t * stride
  int64_t p = -1;

  DEVICE explicit Place(const Inputs& in)
      : first((head / in.H * in.T * in.H + head % in.H) * N), stride(in.H * N) {
    if (in.p == nullptr) return;
    p = read_global(in.p + head / in.H);
    p = p < 0 ? 0 : p > in.T ? in.T : p;
  }
};

// A thread's share of a state or of its adjoint.
template <int N>
struct State {
  using P = Panel<N>;
  float x[P::kRows][P::kCols];

  // `of_head` is [N,N], or null for zeros.
  DEVICE void read(const float* of_head, const Place<N>& at) {
    UNROLL for (int i = 0; i < P::kRows; ++i) {
      Pack<P::kCols> row = {};
      if (of_head) row = read_global<P::kCols>(of_head + (at.row + i) * N + at.column);
      UNROLL for (int c = 0; c < P::kCols; ++c) x[i][c] = row[c];
    }
  }
  DEVICE void write(float* of_head, const Place<N>& at) const {
    UNROLL for (int i = 0; i < P::kRows; ++i) {
      Pack<P::kCols> row;
      UNROLL for (int c = 0; c < P::kCols; ++c) row[c] = x[i][c];
      write_global<P::kCols>(of_head + (at.row + i) * N + at.column, row);
    }
  }
  DEVICE void add(const float* of_head, const Place<N>& at) {
    State other;
    other.read(of_head, at);
    UNROLL for (int i = 0; i < P::kRows; ++i)
      UNROLL for (int c = 0; c < P::kCols; ++c) x[i][c] += other.x[i][c];
  }
};

// One number for each of a thread's rows.
template <int N>
using Rows = Pack<Panel<N>::kRows>;

// Adds up over the lanes that share the rows. Lane l is left with the sum of row l modulo kRows.
template <int N>
DEVICE float sum_over_lanes(Rows<N> x) {
  using P = Panel<N>;
  const int lane = thread_index() % P::kLanes;
  UNROLL for (int half = P::kRows / 2; half >= 1; half /= 2) {  // hand half of the rows over, keep the other half
    const bool upper = lane & half;
    UNROLL for (int i = 0; i < half; ++i) {
      const float keep = upper ? x[i + half] : x[i], give = upper ? x[i] : x[i + half];
      x[i] = keep + from_lane_xor(give, half);
    }
  }
  float sum = x[0];
  UNROLL for (int mask = P::kRows; mask < P::kLanes; mask *= 2) sum += from_lane_xor(sum, mask);
  return sum;
}

// Brings what sum_over_lanes left in single lanes to all of them.
template <int N>
DEVICE Rows<N> to_all_lanes(float sum) {
  using P = Panel<N>;
  const int first_lane = thread_index() % kWarp / P::kLanes * P::kLanes;
  Rows<N> result;
  UNROLL for (int i = 0; i < P::kRows; ++i) result[i] = from_lane(sum, first_lane + i);
  return result;
}

// S x for a key-side vector x: this thread's columns' part of it.
template <int N>
DEVICE Rows<N> times(const State<N>& S, const Pack<Panel<N>::kCols>& x) {
  using P = Panel<N>;
  Rows<N> result = {};
  UNROLL for (int i = 0; i < P::kRows; ++i)
    UNROLL for (int c = 0; c < P::kCols; ++c) result[i] = prims::fma(S.x[i][c], x[c], result[i]);
  return result;
}

struct Exp {
  DEVICE float operator()(float x) const { return prims::exp(x); }
};

DEVICE wkv7::Decay<float> decay_of(float x, bool sigmoid) {
  return sigmoid ? wkv7::sigmoid_decay(x, Exp{}, float(wkv7::kDecayScale)) : wkv7::exp_decay(x, Exp{});
}

// The key-side vectors of `capacity` tokens in shared memory, [kKeySides, capacity, N].
template <int N, int capacity>
struct Tokens {
  using P = Panel<N>;
  Shared<float> memory;

  // The block brings in `count` tokens from t on.
  template <class IO, class W>
  DEVICE void bring(const Inputs& in, const Place<N>& at, int64_t t, int count) const {
    for (int i = 4 * thread_index(); i < count * N; i += 4 * P::kThreads) {
      const int64_t from = at.first + (t + i / N) * at.stride + i % N;
      const Pack<4> r = read_global<4>(static_cast<const IO*>(in.r) + from);
      const Pack<4> k = read_global<4>(static_cast<const IO*>(in.k) + from);
      const Pack<4> a = read_global<4>(static_cast<const IO*>(in.a) + from);
      const Pack<4> b = read_global<4>(static_cast<const IO*>(in.b) + from);
      Pack<4> d = read_global<4>(static_cast<const W*>(in.w) + from);
      UNROLL for (int c = 0; c < 4; ++c) d[c] = decay_of(d[c], in.sigmoid).d;
      write_shared<4>(memory, kR * capacity * N + i, r);
      write_shared<4>(memory, kK * capacity * N + i, k);
      write_shared<4>(memory, kA * capacity * N + i, a);
      write_shared<4>(memory, kB * capacity * N + i, b);
      write_shared<4>(memory, kD * capacity * N + i, d);
    }
  }
  // This thread's columns of one vector of token m.
  DEVICE Pack<P::kCols> operator()(int vector, int m, const Place<N>& at) const {
    return read_shared<P::kCols>(memory, (vector * capacity + m) * N + at.column);
  }
};

// This thread's rows of a value-side vector [B,T,H,N] at token t; zeros for null.
template <int N, class IO>
DEVICE Rows<N> rows_of(const void* tensor, const Place<N>& at, int64_t t) {
  if (tensor == nullptr) return {};
  return read_global<Panel<N>::kRows>(static_cast<const IO*>(tensor) + at.first + t * at.stride + at.row);
}

// Writes what sum_over_lanes left: a value-side vector's rows at token t.
template <int N, class IO>
DEVICE void write_rows(void* tensor, const Place<N>& at, int64_t t, float sum) {
  if (at.lane < Panel<N>::kRows)
    write_global<1>(static_cast<IO*>(tensor) + at.first + t * at.stride + at.row + at.lane, Pack<1>{{sum}});
}

// The state after token m, from the one before it; u = S a is taken from the one before.
template <int N, int capacity>
DEVICE void step(State<N>& S, const Tokens<N, capacity>& tokens, int m, const Place<N>& at, const Rows<N>& v,
                 const Rows<N>& u) {
  using P = Panel<N>;
  const auto d = tokens(kD, m, at), b = tokens(kB, m, at), k = tokens(kK, m, at);
  UNROLL for (int i = 0; i < P::kRows; ++i)
    UNROLL for (int c = 0; c < P::kCols; ++c)
      S.x[i][c] = prims::fma(S.x[i][c], d[c], prims::fma(u[i], b[c], v[i] * k[c]));
}

// What one run over the tokens [begin, end) starts from and leaves behind, beside y, cap and the final state.
struct Sweep {
  int64_t begin, end;
  const float* start;     // the state before `begin`, of head 0; or null: zeros
  int64_t start_stride;   // from one head's to the next
  float* saved;           // or null; the states before begin, begin + every, ...: [count, N, N] of head 0
  int64_t saved_stride;
  int every;              // a power of two that divides `begin`
};

template <int N, class IO, class W>
KERNEL(Panel<N>::kThreads, 768 / Panel<N>::kThreads) void forward(Inputs in, Outputs out, Sweep sweep) {
  SHARED(float, memory, kKeySides * kStaged * N);
  const Place<N> at(in);
  const Tokens<N, kStaged> tokens{memory};
  float* saved = sweep.saved ? sweep.saved + at.head * sweep.saved_stride : nullptr;
  State<N> S;
  S.read(sweep.start ? sweep.start + at.head * sweep.start_stride : nullptr, at);
  for (int64_t begin = sweep.begin; begin < sweep.end; begin += kStaged) {
    const int count = int(sweep.end - begin < kStaged ? sweep.end - begin : kStaged);
    sync_block();  // until everyone is done with the tokens before
    tokens.template bring<IO, W>(in, at, begin, count);
    sync_block();
    for (int m = 0; m < count; ++m) {
      const int64_t t = begin + m;
      if (out.cap && at.p == t) S.write(out.cap + at.head * N * N, at);
      if (saved && (t & (sweep.every - 1)) == 0) {
        S.write(saved, at);
        saved += N * N;
      }
      const Rows<N> v = rows_of<N, IO>(in.v, at, t);
      const Rows<N> u = to_all_lanes<N>(sum_over_lanes<N>(times(S, tokens(kA, m, at))));
      step(S, tokens, m, at, v, u);
      if (out.y) write_rows<N, IO>(out.y, at, t, sum_over_lanes<N>(times(S, tokens(kR, m, at))));
    }
  }
  if (out.cap && at.p == in.T) S.write(out.cap + at.head * N * N, at);
  if (out.final_state) S.write(out.final_state + at.head * N * N, at);
}

// The tokens [begin, end) of a slab in reverse. With G the adjoint of the state after a token, all uses of that state
// included:
//   dr = S^T dy   dv = G k   dk = G^T v   g = G b   db = G^T u   dd = sum over rows of G S_before   da = S_before^T g
//   adjoint before the token = G diag(d) + g a^T
template <int N, class IO, class W>
KERNEL(Panel<N>::kThreads, 384 / Panel<N>::kThreads) void backward(Inputs in, Gradients out, int64_t begin, int64_t end) {
  using P = Panel<N>;
  SHARED(float, memory, kKeySides * kSegment * N);
  SHARED(float, shares, 2 * P::kGroups * kKeySides * N);  // of the groups in a token's key-side gradients; two tokens
  const Place<N> at(in);
  const Tokens<N, kSegment> tokens{memory};
  float* partials = out.partials + (at.head * kSlab * P::kCount + at.panel) * kKeySides * N;
  State<N> D;  // the adjoint
  D.read(out.adjoint + at.head * N * N, at);
  for (int64_t segment = (end - begin - 1) / kSegment; segment >= 0; --segment) {
    const int64_t from = begin + segment * kSegment;
    const int count = int(end - from < kSegment ? end - from : kSegment);
    // Everyone is done with the segment before: its last token ended with a barrier after the last look at `tokens`.
    tokens.template bring<IO, W>(in, at, from, count);
    sync_block();

    State<N> S, before[kSegment];
    float u[kSegment];  // as sum_over_lanes leaves it
    S.read(out.states + (at.head * (kSlab / kSegment) + segment) * N * N, at);
    UNROLL for (int m = 0; m < kSegment; ++m) {
      if (m >= count) continue;
      before[m] = S;
      u[m] = sum_over_lanes<N>(times(S, tokens(kA, m, at)));
      step(S, tokens, m, at, rows_of<N, IO>(in.v, at, from + m), to_all_lanes<N>(u[m]));
    }

    UNROLL for (int m = kSegment - 1; m >= 0; --m) {  // S is the state after token m
      if (m >= count) continue;
      const int64_t t = from + m;
      if (out.dcap && at.p == t + 1) D.add(out.dcap + at.head * N * N, at);
      const Rows<N> dy = rows_of<N, IO>(out.dy, at, t), v = rows_of<N, IO>(in.v, at, t);
      const auto r = tokens(kR, m, at), k = tokens(kK, m, at), a = tokens(kA, m, at), b = tokens(kB, m, at),
                 d = tokens(kD, m, at);
      UNROLL for (int i = 0; i < P::kRows; ++i)
        UNROLL for (int c = 0; c < P::kCols; ++c) D.x[i][c] = prims::fma(dy[i], r[c], D.x[i][c]);  // D is G now
      const Rows<N> g = to_all_lanes<N>(sum_over_lanes<N>(times(D, b))), u_m = to_all_lanes<N>(u[m]);
      write_rows<N, IO>(out.dv, at, t, sum_over_lanes<N>(times(D, k)));

      Pack<P::kCols> share[kKeySides] = {};
      UNROLL for (int c = 0; c < P::kCols; ++c)
        UNROLL for (int i = 0; i < P::kRows; ++i) {
          share[kR][c] = prims::fma(S.x[i][c], dy[i], share[kR][c]);
          share[kK][c] = prims::fma(D.x[i][c], v[i], share[kK][c]);
          share[kA][c] = prims::fma(before[m].x[i][c], g[i], share[kA][c]);
          share[kB][c] = prims::fma(D.x[i][c], u_m[i], share[kB][c]);
          share[kD][c] = prims::fma(D.x[i][c], before[m].x[i][c], share[kD][c]);
          D.x[i][c] = prims::fma(D.x[i][c], d[c], g[i] * a[c]);
        }
      const int buffer = m % 2 * P::kGroups * kKeySides * N;  // the other one may still be being read
      UNROLL for (int vector = 0; vector < kKeySides; ++vector)
        write_shared<P::kCols>(shares, buffer + (at.group * kKeySides + vector) * N + at.column, share[vector]);
      sync_block();
      for (int i = 4 * thread_index(); i < kKeySides * N; i += 4 * P::kThreads) {
        Pack<4> sum = read_shared<4>(shares, buffer + i);
        UNROLL for (int group = 1; group < P::kGroups; ++group) {
          const Pack<4> more = read_shared<4>(shares, buffer + group * kKeySides * N + i);
          UNROLL for (int c = 0; c < 4; ++c) sum[c] += more[c];
        }
        write_global<4>(partials + (t - begin) * P::kCount * kKeySides * N + i, sum);
      }
      S = before[m];
    }
  }
  if (out.dcap && at.p == 0 && begin == 0) D.add(out.dcap + at.head * N * N, at);
  D.write(out.adjoint + at.head * N * N, at);
}

constexpr int kGatherThreads = 256;

// The key-side gradients of the tokens [begin, end): four columns of one token a thread, added over the panels.
template <int N, class IO, class W>
KERNEL(kGatherThreads, 2) void gather(Inputs in, Gradients out, int64_t begin, int64_t end) {
  constexpr int kPacks = N / 4, kPanels = Panel<N>::kCount;
  const int64_t pack = block_index() * kGatherThreads + thread_index(), token = pack / kPacks;
  const int64_t head = token / (end - begin), m = token % (end - begin);
  if (head >= in.B * in.H) return;
  const int column = int(pack % kPacks) * 4;
  const int64_t to = (((head / in.H) * in.T + begin + m) * in.H + head % in.H) * N + column;
  Pack<4> sum[kKeySides] = {};
  UNROLL for (int panel = 0; panel < kPanels; ++panel)
    UNROLL for (int vector = 0; vector < kKeySides; ++vector) {
      const int64_t from = ((head * kSlab + m) * kPanels + panel) * kKeySides + vector;
      const Pack<4> share = read_global<4>(out.partials + from * N + column);
      UNROLL for (int c = 0; c < 4; ++c) sum[vector][c] += share[c];
    }
  const Pack<4> w = read_global<4>(static_cast<const W*>(in.w) + to);
  UNROLL for (int c = 0; c < 4; ++c) {
    const auto decay = decay_of(w[c], in.sigmoid);
    sum[kD][c] *= decay.d * decay.slope;
  }
  write_global<4>(static_cast<IO*>(out.dr) + to, sum[kR]);
  write_global<4>(static_cast<IO*>(out.dk) + to, sum[kK]);
  write_global<4>(static_cast<IO*>(out.da) + to, sum[kA]);
  write_global<4>(static_cast<IO*>(out.db) + to, sum[kB]);
  write_global<4>(static_cast<W*>(out.dw) + to, sum[kD]);
}

struct Forward {
  template <int N, class IO, class W>
  static int run(const Inputs& in, const Outputs& out) {
    const Sweep sweep = {0, in.T, in.s0, N * N, out.checkpoints, (in.T + kSlab - 1) / kSlab * N * N, kSlab};
    return launch({in.device, in.stream}, forward<N, IO, W>, in.B * in.H * Panel<N>::kCount, Panel<N>::kThreads, in,
                  out, sweep);
  }
};

struct Backward {
  template <int N, class IO, class W>
  static int run(const Inputs& in, const Gradients& out) {
    const Queue queue = {in.device, in.stream};
    const int64_t heads = in.B * in.H, slabs = (in.T + kSlab - 1) / kSlab;
    for (int64_t slab = slabs - 1; slab >= 0; --slab) {
      const int64_t begin = slab * kSlab, end = begin + kSlab < in.T ? begin + kSlab : in.T;
      const Sweep again = {begin,      end,        out.checkpoints + slab * N * N,  slabs * N * N,
                           out.states, kSlab / kSegment * N * N, kSegment};
      if (const int error = launch(queue, forward<N, IO, W>, heads * Panel<N>::kCount, Panel<N>::kThreads, in,
                                   Outputs{}, again))
        return error;
      if (const int error = launch(queue, backward<N, IO, W>, heads * Panel<N>::kCount, Panel<N>::kThreads, in, out,
                                   begin, end))
        return error;
      const int64_t packs = heads * (end - begin) * (N / 4);
      if (const int error = launch(queue, gather<N, IO, W>, (packs + kGatherThreads - 1) / kGatherThreads,
                                   kGatherThreads, in, out, begin, end))
        return error;
    }
    return 0;
  }
};

constexpr int kInvalidValue = 1;  // cudaErrorInvalidValue

template <class Pass, int N, class Results>
int with_types(const Inputs& in, const Results& out) {
  if (!in.is_bf16) return in.w_is_bf16 ? kInvalidValue : Pass::template run<N, float, float>(in, out);
  if (in.w_is_bf16) return Pass::template run<N, bf16, bf16>(in, out);
  return Pass::template run<N, bf16, float>(in, out);
}

template <class Pass, class Results>
int with_head_size(const Inputs& in, const Results& out) {
  switch (in.N) {
    case 8: return with_types<Pass, 8>(in, out);
    case 16: return with_types<Pass, 16>(in, out);
    case 32: return with_types<Pass, 32>(in, out);
    case 64: return with_types<Pass, 64>(in, out);
    case 128: return with_types<Pass, 128>(in, out);
    default: return kInvalidValue;
  }
}

}  // namespace

int64_t wkv7_cuda_panels(int64_t N) {
  switch (N) {
    case 32: return Panel<32>::kCount;
    case 64: return Panel<64>::kCount;
    case 128: return Panel<128>::kCount;
    default: return 1;
  }
}
int wkv7_cuda_forward(const Inputs* in, const Outputs* out) { return with_head_size<Forward>(*in, *out); }
int wkv7_cuda_backward(const Inputs* in, const Gradients* out) { return with_head_size<Backward>(*in, *out); }
const char* wkv7_cuda_error(int error) { return prims::error_text(error); }
