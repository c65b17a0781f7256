// Of every chunk, what the scan takes of it: all that does not depend on the state. A block prepares one chunk of one
// head. Formulas and names: wkv7_v2.h; decays within tiles are centred on the middle of the chunk, which cancels.

#include "wkv7_tiles.h"

namespace {

using namespace tiles;

template <int N, int L, bool kBackward>
struct Plan {
  static constexpr int kThreads = 2 * N, kWarps = kThreads / kWarp, kBlocks = L / 16;
  static constexpr int kWide = N + kPad, kNarrow = L + kPad;  // pitches
  static constexpr int kArena = (kBackward ? 6 : 5) * shared_bytes<bf16>(L * kWide) +
                                (kBackward ? 3 : 2) * shared_bytes<bf16>(L * kNarrow) +
                                shared_bytes<float>(L * 16) + 2 * shared_bytes<float>(N) + shared_bytes<float>(4 * N);
  static_assert(kWarps * 16 == N && kArena <= kSharedBytes);
};

// A warp makes T in its tile, which has M_ab's blocks below the diagonal: `m_ab` has those on it, one after the other.
// In them by substitution in float, one column a lane; a power series or a rounded inverse would lose everything where
// tokens repeat. Below them (1 - M)^-1 has T_2 M_21 T_1.
template <int L>
DEVICE void invert(Shared<float> m_ab, Tile t) {
  constexpr int kPitch = L + kPad, kBlocks = L / 16;
  static_assert(kBlocks <= 2);
  const int block = lane() / 16, column = lane() % 16;
  if (block < kBlocks) {
    float x[16];
    UNROLL for (int row = 0; row < 16; ++row) {
      x[row] = row == column ? 1 : 0;
      UNROLL for (int s = 0; s < row; s += 4) {
        const Pack<4> m = read_shared<4>(m_ab, (16 * block + row) * 16 + s);
        UNROLL for (int i = 0; i < 4; ++i)
          if (s + i < row) x[row] = prims::fma(m[i], x[s + i], x[row]);
      }
    }
    UNROLL for (int row = 0; row < 16; ++row)
      write_shared<1>(t, (16 * block + row) * kPitch + 16 * block + column, Pack<1>{{x[row]}});
  }
  if (kBlocks == 1) return;
  sync_warp();
  uint32_t t_2[4], m_21[4], t_1[4], product[4];
  read_a(t_2, t, kPitch, 16, 16);
  read_b(m_21, t, kPitch, 16, 0);
  read_b(t_1, t, kPitch, 0, 0);
  Block inner, t_21;
  inner.add_product(t_2, m_21);
  inner.as_a(product);
  t_21.add_product(product, t_1);
  sync_warp();
  t_21.write(t, kPitch, 16, 0);
}

// Columns n to n + 15 of a lower triangular [L,L] tile, or of its transpose, times an [L, ...] tile.
template <int L, bool transposed>
DEVICE void triangular_product(Block (&result)[L / 16], Tile triangle, Tile x, int pitch, int n) {
  UNROLL for (int k = 0; k < L / 16; ++k) {
    uint32_t a[4], b[4];
    read_b(b, x, pitch, 16 * k, n);
    UNROLL for (int i = 0; i < L / 16; ++i) {
      if (transposed ? k < i : k > i) continue;
      if (transposed)
        read_a_transposed(a, triangle, L + kPad, 16 * k, 16 * i);
      else
        read_a(a, triangle, L + kPad, 16 * i, 16 * k);
      result[i].add_product(a, b);
    }
  }
}

template <int N, int L, bool kBackward>
KERNEL((2 * N), (N == 64 ? 3 : 1))
void prepare(Inputs in, Wkv7V2Chunks out, const bf16* dy_, int64_t slots) {
  using P = Plan<N, L, kBackward>;
  SharedArena arena;
  const Tile a_ = arena.take<bf16>("a", L * P::kWide), r_ = arena.take<bf16>("r", L * P::kWide);
  const Tile k_ = arena.take<bf16>("k", L * P::kWide), b_ = arena.take<bf16>("b", L * P::kWide);
  const Tile v_ = arena.take<bf16>("v", L * P::kWide);
  const Tile dy = kBackward ? arena.take<bf16>("dy", L * P::kWide) : v_;
  const Tile t_ = arena.take<bf16>("t", L * P::kNarrow), m_ak = arena.take<bf16>("m_ak", L * P::kNarrow);
  const Tile m_rb = kBackward ? arena.take<bf16>("m_rb", L * P::kNarrow) : m_ak;
  const Shared<float> m_ab = arena.take<float>("m_ab", L * 16);
  const Shared<float> upto_mid = arena.take<float>("upto_mid", N), from_mid = arena.take<float>("from_mid", N);
  const Shared<float> totals = arena.take<float>("totals", 4 * N);

  const Head<N, L> head(in, block_index() / slots);
  const int chunk = int(block_index() % slots);
  if (chunk >= head.count) return;
  const Share<N, L, N, 4> share(head, chunk, 0);
  const int64_t wide = block_index() * L * N, narrow = block_index() * L * L;  // of this chunk in the results
  const auto of = [](void* results) { return static_cast<bf16*>(results); };

  const int64_t from = head.first + head.begin(chunk) * head.stride;
  copy_tokens<N, L, P::kThreads>(v_, P::kWide, 0, static_cast<const bf16*>(in.v) + from, head.stride, share.tokens);
  if (kBackward)
    copy_tokens<N, L, P::kThreads>(dy, P::kWide, 0, dy_ ? dy_ + from : static_cast<const bf16*>(in.v), head.stride,
                                 dy_ ? share.tokens : 0);
  end_group_of_copies();

  const Decays<N, L, N, 4> c(in, share, totals);
  Pack<2> before_mid, after_mid, upto;
  UNROLL for (int i = 0; i < 2; ++i) {
    before_mid[i] = prims::exp(c.mid[i]);
    after_mid[i] = prims::exp(c.rest[i]);
    upto[i] = prims::exp(c.before[0][i]);
  }
  if (share.group == 0) {
    write_shared<2>(upto_mid, share.local, before_mid);
    write_shared<2>(from_mid, share.local, after_mid);
    write_global<2>(out.keep + block_index() * N + share.local,
                    Pack<2>{{prims::exp(c.mid[0] + c.rest[0]), prims::exp(c.mid[1] + c.rest[1])}});
  }
  UNROLL for (int m = 0; m < share.kRows; ++m) {
    const int t = share.row + m, at = t * P::kWide + share.local;
    Pack<2> r = share.read(in.r, t), k = share.read(in.k, t), a = share.read(in.a, t), b = share.read(in.b, t);
    UNROLL for (int i = 0; i < 2; ++i) {
      const float down = prims::exp(-c.before[m + 1][i]);
      a[i] *= upto[i];
      upto[i] = prims::exp(c.before[m + 1][i]);
      r[i] *= upto[i];
      k[i] *= down;
      b[i] *= down;
    }
    write_shared(a_, at, prims::pack(a[0], a[1]));
    write_shared(r_, at, prims::pack(r[0], r[1]));
    write_shared(k_, at, prims::pack(k[0], k[1]));
    write_shared(b_, at, prims::pack(b[0], b[1]));
    const int64_t to = wide + t * N + share.local;
    const auto write_times = [&](void* results, const Pack<2>& x, const Pack<2>& factor) {
      write_global(of(results) + to, prims::pack(x[0] * factor[0], x[1] * factor[1]));
    };
    write_times(out.forward.k, k, after_mid);
    write_times(out.forward.b, b, after_mid);
    write_times(kBackward ? out.backward.k : out.forward.r, r, before_mid);
    if (kBackward) write_times(out.backward.b, a, before_mid);
  }
  wait_for_copies<0>();
  sync_block();

  enum { kAB, kAK, kRB, kRK, kProducts };
  for (int unit = warp(); unit < kProducts * P::kBlocks; unit += P::kWarps) {
    const int product = unit % kProducts, i = unit / kProducts;
    UNROLL for (int j = 0; j < P::kBlocks; ++j) {
      Block x;
      if (j <= i)
        UNROLL for (int k = 0; k < N / 16; ++k) {
          uint32_t a[4], b[4];
          read_a(a, product == kAB || product == kAK ? a_ : r_, P::kWide, 16 * i, 16 * k);
          read_b_transposed(b, product == kAB || product == kRB ? b_ : k_, P::kWide, 16 * j, 16 * k);
          x.add_product(a, b);
        }
      const int lowest = (product == kAB || product == kAK) + 16 * (j - i);
      x.select([&](int row, int column) { return row >= column + lowest; });
      const int64_t there = narrow + 16 * i * L + 16 * j, mirrored = narrow + 16 * j * L + 16 * i;
      if (product == kAB && i == j)
        UNROLL for (int half = 0; half < 2; ++half)
          UNROLL for (int h = 0; h < 2; ++h)
            write_shared<2>(m_ab, (16 * i + Block::row(h)) * 16 + Block::column(half),
                            Pack<2>{{x.x[half][2 * h], x.x[half][2 * h + 1]}});
      if (product == kAB && j < i) x.write(t_, P::kNarrow, 16 * i, 16 * j);
      if (product == kAK && j <= i) x.write(m_ak, P::kNarrow, 16 * i, 16 * j);
      if (!kBackward && product == kRB) x.write(of(out.forward.m_u) + there, L);
      if (!kBackward && product == kRK) x.write(of(out.forward.m_v) + there, L);
      if (kBackward && product == kRB && j <= i) x.write(m_rb, P::kNarrow, 16 * i, 16 * j);
      if (kBackward && product == kAK) x.write_transposed(of(out.backward.m_u) + mirrored, L);
      if (kBackward && product == kRK) x.write_transposed(of(out.backward.m_v) + mirrored, L);
    }
  }
  sync_block();

  if (warp() == 0) invert<L>(m_ab, t_);
  const int n = 16 * warp();  // a warp has 16 columns to the end
  Block v[P::kBlocks], z[P::kBlocks];
  triangular_product<L, false>(v, m_ak, v_, P::kWide, n);
  if (kBackward) triangular_product<L, true>(z, m_rb, dy, P::kWide, n);
  sync_warp();
  UNROLL for (int i = 0; i < P::kBlocks; ++i) {
    v[i].write(v_, P::kWide, 16 * i, n);
    if (kBackward) z[i].write(dy, P::kWide, 16 * i, n);
  }
  sync_block();

  const auto finish = [&](Block(&x)[P::kBlocks], void* results) {
    UNROLL for (int i = 0; i < P::kBlocks; ++i) x[i].write(of(results) + wide + 16 * i * N + n, N);
  };
  const auto scale = [&](Block(&x)[P::kBlocks], Shared<float> factors) {
    UNROLL for (int half = 0; half < 2; ++half) {
      const Pack<2> factor = read_shared<2>(factors, n + Block::column(half));
      UNROLL for (int i = 0; i < P::kBlocks; ++i)
        UNROLL for (int e = 0; e < 4; ++e) x[i].x[half][e] *= factor[e % 2];
    }
  };
  Block w[P::kBlocks], u[P::kBlocks];
  triangular_product<L, false>(w, t_, a_, P::kWide, n);
  scale(w, upto_mid);
  finish(w, out.forward.w);
  triangular_product<L, false>(u, t_, v_, P::kWide, n);
  finish(u, out.forward.u);
  if (!kBackward) return;
  Block w_2[P::kBlocks], z_0[P::kBlocks];
  triangular_product<L, true>(w_2, t_, b_, P::kWide, n);
  scale(w_2, from_mid);
  finish(w_2, out.backward.w);
  triangular_product<L, true>(z_0, t_, dy, P::kWide, n);
  finish(z_0, out.backward.u);
}

template <bool kBackward>
struct Prepare {
  template <int N, int L>
  static int run(const Inputs& in, const Wkv7V2Chunks& out, const void* dy) {
    const int64_t slots = slots_of(in);
    return launch_with_arena({in.device, in.stream}, prepare<N, L, kBackward>, in.B * in.H * slots, 2 * N,
                             Plan<N, L, kBackward>::kArena, in, out, static_cast<const bf16*>(dy), slots);
  }
};

}  // namespace

int64_t wkv7_v2_slots(const Inputs* in) { return slots_of(*in); }
int64_t wkv7_v2_chunks_between_checkpoints(const Inputs* in) {
  return kWkv7V2CheckpointEvery / chunk_length(in->sigmoid);
}
const char* wkv7_v2_error(int error) { return prims::error_text(error); }
int wkv7_v2_prepare_forward(const Inputs* in, const Wkv7V2Chunks* out) {
  return with_sizes<Prepare<false>>(*in, *out, nullptr);
}
int wkv7_v2_prepare_backward(const Inputs* in, const Wkv7V2Chunks* out, const void* dy) {
  return with_sizes<Prepare<true>>(*in, *out, dy);
}
