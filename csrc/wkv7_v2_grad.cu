// The gradients of r, w, k, a and b, chunk by chunk, from the states before and their gradients after each. A block has
// one chunk of one head and 64 of its key columns. Names: wkv7_v2.h.
//
// With dM_xy the gradients of the M's, lower triangular like them, and per key column
//   dr_t = e^{c_t} dY S + e^{c_t} (dM_rb B- + dM_rk K-)        da_t = e^{c_{t-1}} Z S + e^{c_{t-1}} (dM_ab B- + dM_ak K-)
//   dk_s = e^{c_L - c_s} V D + e^{-c_s} (dM_ak^T A~ + dM_rk^T R~)       db_s the same with U, dM_ab, dM_rb
// the log decay of token j has a part in whatever crosses it:
//   e^{c_L} sum of D * S  +  k dk and b db of s < j, from D   +  r dr of t >= j and a da of t > j, from S
//   + r dr of t >= j, - k dk - b db of t >= j, a da of t > j, from the M's
// Where no decay lies between two tokens (t = s in r, t = s + 1 in a) the last line has a term and its opposite. Such
// pairs are large where decays are fast, and would drown the sum they cancel in; so they are left out of the products
// and enter dr, dk, da and db by themselves, in float. What remains cancels to the bit, because both sides of a pair
// are made of the same rounded numbers.

#include "wkv7_tiles.h"

namespace {

using namespace tiles;

constexpr int kColumns = 64;
enum { kAB, kAK, kRB, kRK, kProducts };  // the dM's

template <int N, int L>
struct Plan {
  static constexpr int kGroups = L / 4, kThreads = kGroups * kColumns / 2;  // four warps for every 16 tokens
  static constexpr int kKeys = kColumns + kPad, kValues = N + kPad, kNarrow = L + kPad, kFloats = kColumns + 4;
  static constexpr int kArena = 4 * shared_bytes<bf16>(L * kKeys) + 4 * shared_bytes<bf16>(L * kValues) +
                                shared_bytes<bf16>(N * kKeys) + shared_bytes<bf16>(kProducts * L * kNarrow) +
                                shared_bytes<float>(kProducts * L) + shared_bytes<float>(L * kFloats) +
                                shared_bytes<float>(kColumns) + 4 * shared_bytes<float>(kGroups * kColumns);
  static_assert(kArena <= kSharedBytes && kThreads == kProducts * (L / 16) * kWarp && kColumns == 4 * 16);
};

template <int N, int L>
KERNEL((Plan<N, L>::kThreads), (N == 64 ? 2 : 1))
void gradients(Inputs in, Wkv7V2Chunks chunks, Wkv7V2Gradients out, int64_t slots) {
  using P = Plan<N, L>;
  constexpr int kThreads = P::kThreads, kGroups = P::kGroups;
  SharedArena arena;
  const Tile a_ = arena.take<bf16>("a", L * P::kKeys), r_ = arena.take<bf16>("r", L * P::kKeys);
  const Tile k_ = arena.take<bf16>("k", L * P::kKeys), b_ = arena.take<bf16>("b", L * P::kKeys);
  const Tile v = arena.take<bf16>("v", L * P::kValues), dy = arena.take<bf16>("dy", L * P::kValues);
  const Tile u = arena.take<bf16>("u", L * P::kValues), z = arena.take<bf16>("z", L * P::kValues);
  const Tile state = arena.take<bf16>("state", N * P::kKeys);  // S, then D
  const Tile dm = arena.take<bf16>("dm", kProducts * L * P::kNarrow);
  const Shared<float> alone = arena.take<float>("alone", kProducts * L);  // the pairs left out, by their t
  const Shared<float> sums = arena.take<float>("sums", L * P::kFloats), upto_mid = arena.take<float>("upto_mid", kColumns);
  const Shared<float> totals = arena.take<float>("totals", kGroups * kColumns);
  const Shared<float> crossing = arena.take<float>("crossing", kGroups * kColumns);
  const Shared<float> of_earlier = arena.take<float>("of_earlier", kGroups * kColumns);
  const Shared<float> of_later = arena.take<float>("of_later", kGroups * kColumns);

  constexpr int kParts = N / kColumns;
  const int64_t slot = block_index() / kParts;
  const int chunk = int(slot % slots);
  const Head<N, L> head(in, slot / slots);
  if (chunk >= head.count) return;
  const int first_column = int(block_index() % kParts) * kColumns;
  const Share<N, L, kColumns, kGroups> share(head, chunk, first_column);
  constexpr int kRows = Share<N, L, kColumns, kGroups>::kRows;
  const int block = warp() / 4, n = warp() % 4 * 16;  // a warp makes 16 tokens, and in the end 16 columns of them
  const auto of = [](const void* tensor) { return static_cast<const bf16*>(tensor); };

  const int64_t from = head.first + head.begin(chunk) * head.stride;
  copy_tokens<N, L, kThreads>(v, P::kValues, 0, of(in.v) + from, head.stride, share.tokens);
  copy_tokens<N, L, kThreads>(dy, P::kValues, 0, of(out.dy ? out.dy : in.v) + from, head.stride,
                            out.dy ? share.tokens : 0);
  copy_rows<N, L, kThreads>(u, P::kValues, 0, of(chunks.forward.u) + slot * L * N, N);
  copy_rows<N, L, kThreads>(z, P::kValues, 0, of(chunks.backward.u) + slot * L * N, N);
  end_group_of_copies();
  copy_rows<kColumns, N, kThreads>(state, P::kKeys, 0, of(out.states) + slot * N * N + first_column, N);
  end_group_of_copies();

  const Decays<N, L, kColumns, kGroups> c(in, share, totals);
  Pack<2> rest, upto[kRows + 1];  // e^{c_L - c_mid}, e^{c - c_mid} before and after each token
  const auto down = [&](int m, int i) { return 1 / upto[m + 1][i]; };
  UNROLL for (int i = 0; i < 2; ++i) {
    rest[i] = prims::exp(c.rest[i]);
    upto[0][i] = prims::exp(c.before[0][i]);
  }
  if (share.group == 0)
    write_shared<2>(upto_mid, share.local, Pack<2>{{prims::exp(c.mid[0]), prims::exp(c.mid[1])}});
  UNROLL for (int m = 0; m < kRows; ++m) {
    const int t = share.row + m, at = t * P::kKeys + share.local;
    Pack<2> r = share.read(in.r, t), k = share.read(in.k, t), a = share.read(in.a, t), b = share.read(in.b, t);
    UNROLL for (int i = 0; i < 2; ++i) {
      upto[m + 1][i] = prims::exp(c.before[m + 1][i]);
      a[i] *= upto[m][i];
      r[i] *= upto[m + 1][i];
      k[i] *= down(m, i);
      b[i] *= down(m, i);
    }
    write_shared(a_, at, prims::pack(a[0], a[1]));
    write_shared(r_, at, prims::pack(r[0], r[1]));
    write_shared(k_, at, prims::pack(k[0], k[1]));
    write_shared(b_, at, prims::pack(b[0], b[1]));
  }
  wait_for_copies<1>();
  sync_block();

  {  // dM_ab = Z U^T, dM_ak = Z V^T, dM_rb = dY U^T, dM_rk = dY V^T, without what `alone` gets
    const int product = warp() % 4, strict = product == kAB || product == kAK;
    if (strict && block == 0 && lane() == 0) write_shared<1>(alone, product * L, Pack<1>{{0}});
    for (int j = 0; j <= block; ++j) {
      Block x;
      UNROLL for (int n = 0; n < N / 16; ++n) {
        uint32_t left[4], right[4];
        read_a(left, strict ? z : dy, P::kValues, 16 * block, 16 * n);
        read_b_transposed(right, product == kAB || product == kRB ? u : v, P::kValues, 16 * j, 16 * n);
        x.add_product(left, right);
      }
      UNROLL for (int half = 0; half < 2; ++half)
        UNROLL for (int e = 0; e < 4; ++e) {
          const int t = 16 * block + Block::row(e / 2), s = 16 * j + Block::column(half) + e % 2;
          if (t == s + strict) write_shared<1>(alone, product * L + t, Pack<1>{{x.x[half][e]}});
        }
      x.select([&](int row, int column) { return 16 * block + row > 16 * j + column + strict; });
      x.write(dm, P::kNarrow, product * L + 16 * block, 16 * j);
    }
  }
  wait_for_copies<0>();
  sync_block();

  // What is made number by number: `later[m]` of the log decays up to token row + m, `earlier[m]` of those after it.
  Pack<2> later[kRows] = {}, earlier[kRows] = {}, gradient[kRows];
  const auto add_state_product = [&](Block& x, Tile values) {  // values times S or D
    UNROLL for (int k = 0; k < N / 16; ++k) {
      uint32_t left[4], right[4];
      read_a(left, values, P::kValues, 16 * block, 16 * k);
      read_b(right, state, P::kKeys, 16 * k, n);
      x.add_product(left, right);
    }
  };
  const auto add_product = [&](Block& x, int product, Tile keys) {
    for (int k = 0; k <= block; ++k) {
      uint32_t left[4], right[4];
      read_a(left, dm, P::kNarrow, product * L + 16 * block, 16 * k);
      read_b(right, keys, P::kKeys, 16 * k, n);
      x.add_product(left, right);
    }
  };
  const auto add_transposed_product = [&](Block& x, int product, Tile keys) {
    for (int k = block; k < L / 16; ++k) {
      uint32_t left[4], right[4];
      read_a_transposed(left, dm, P::kNarrow, product * L + 16 * k, 16 * block);
      read_b(right, keys, P::kKeys, 16 * k, n);
      x.add_product(left, right);
    }
  };
  const auto from_state = [&](Block& x) {  // what came from S decays up to the middle first
    UNROLL for (int half = 0; half < 2; ++half) {
      const Pack<2> factor = read_shared<2>(upto_mid, n + Block::column(half));
      UNROLL for (int e = 0; e < 4; ++e) x.x[half][e] *= factor[e % 2];
    }
  };
  const auto write_sums = [&](const Block& x) {
    UNROLL for (int half = 0; half < 2; ++half)
      UNROLL for (int h = 0; h < 2; ++h)
        write_shared<2>(sums, (16 * block + Block::row(h)) * P::kFloats + n + Block::column(half),
                        Pack<2>{{x.x[half][2 * h], x.x[half][2 * h + 1]}});
  };
  const auto sum = [&](int t) { return read_shared<2>(sums, t * P::kFloats + share.local); };
  const auto key = [&](Tile keys, int t) { return read_shared<2>(keys, t * P::kKeys + share.local); };
  const auto pair_of = [&](int product, int t) { return t < L ? read_shared<1>(alone, product * L + t)[0] : 0; };

  {  // dr
    Block x;
    add_state_product(x, dy);
    from_state(x);
    add_product(x, kRB, b_);
    add_product(x, kRK, k_);
    write_sums(x);
  }
  {
    Pack<2> crosses = {};
    const bf16* adjoint = of(out.adjoints) + slot * N * N + share.column;
    for (int row = share.group * (N / kGroups); row < (share.group + 1) * (N / kGroups); ++row) {
      const Pack<2> D = read_global<2>(adjoint + row * N), S = key(state, row);
      UNROLL for (int i = 0; i < 2; ++i) crosses[i] = prims::fma(D[i], S[i], crosses[i]);
    }
    write_shared<2>(crossing, share.group * kColumns + share.local, crosses);
  }
  sync_block();
  UNROLL for (int m = 0; m < kRows; ++m) {
    const int t = share.row + m;
    const Pack<2> x = sum(t), r = key(r_, t), k = share.read(in.k, t), b = share.read(in.b, t);
    Pack<2> dr;
    UNROLL for (int i = 0; i < 2; ++i) {
      later[m][i] += r[i] * x[i];
      dr[i] = upto[m + 1][i] * x[i] + (pair_of(kRK, t) * k[i] + pair_of(kRB, t) * b[i]);
    }
    share.write(out.dr, t, dr);
  }
  sync_block();

  {  // da
    Block x;
    add_state_product(x, z);
    from_state(x);
    add_product(x, kAB, b_);
    add_product(x, kAK, k_);
    write_sums(x);
  }
  sync_block();
  copy_rows<kColumns, N, kThreads>(state, P::kKeys, 0, of(out.adjoints) + slot * N * N + first_column, N);
  end_group_of_copies();
  UNROLL for (int m = 0; m < kRows; ++m) {
    const int t = share.row + m;
    const Pack<2> x = sum(t), k = share.read(in.k, t - 1), b = share.read(in.b, t - 1);
    Pack<2> da, next = {};
    if (t + 1 < L) {
      const Pack<2> a = key(a_, t + 1), y = sum(t + 1);
      UNROLL for (int i = 0; i < 2; ++i) next[i] = a[i] * y[i];
    }
    UNROLL for (int i = 0; i < 2; ++i) {
      later[m][i] += next[i];
      da[i] = upto[m][i] * x[i] + (pair_of(kAK, t) * k[i] + pair_of(kAB, t) * b[i]);
    }
    share.write(out.da, t, da);
  }
  sync_block();

  const auto from_products = [&](int with_a, int with_r, Tile keys) {
    Block y;
    add_transposed_product(y, with_a, a_);
    add_transposed_product(y, with_r, r_);
    write_sums(y);
    sync_block();
    UNROLL for (int m = 0; m < kRows; ++m) {
      const Pack<2> x = sum(share.row + m), own = key(keys, share.row + m);
      UNROLL for (int i = 0; i < 2; ++i) {
        later[m][i] -= own[i] * x[i];
        gradient[m][i] = down(m, i) * x[i];
      }
    }
    sync_block();
  };
  const auto from_adjoint = [&](Tile values, int with_a, int with_r, Tile keys, void* to) {
    Block y;
    add_state_product(y, values);
    write_sums(y);
    sync_block();
    UNROLL for (int m = 0; m < kRows; ++m) {
      const int t = share.row + m;
      const Pack<2> x = sum(t), own = key(keys, t), r = share.read(in.r, t), a = share.read(in.a, t + 1);
      UNROLL for (int i = 0; i < 2; ++i) {
        earlier[m][i] += own[i] * rest[i] * x[i];
        gradient[m][i] += down(m, i) * rest[i] * x[i] + (pair_of(with_r, t) * r[i] + pair_of(with_a, t + 1) * a[i]);
      }
      share.write(to, t, gradient[m]);
    }
  };
  from_products(kAK, kRK, k_);
  wait_for_copies<0>();
  sync_block();
  from_adjoint(v, kAK, kRK, k_, out.dk);
  sync_block();
  from_products(kAB, kRB, b_);
  from_adjoint(u, kAB, kRB, b_, out.db);

  Pack<2> all_later = {}, all_earlier = {};
  UNROLL for (int m = 0; m < kRows; ++m)
    UNROLL for (int i = 0; i < 2; ++i) {
      all_later[i] += later[kRows - 1 - m][i];
      all_earlier[i] += earlier[m][i];
    }
  write_shared<2>(of_later, share.group * kColumns + share.local, all_later);
  write_shared<2>(of_earlier, share.group * kColumns + share.local, all_earlier);
  sync_block();
  Pack<2> crosses = {}, before = {}, after = {};
  UNROLL for (int group = 0; group < kGroups; ++group) {
    const int last = kGroups - 1 - group, at = group * kColumns + share.local, back = last * kColumns + share.local;
    const Pack<2> x = read_shared<2>(crossing, at), y = read_shared<2>(of_earlier, at), z = read_shared<2>(of_later, back);
    UNROLL for (int i = 0; i < 2; ++i) {
      crosses[i] += x[i];
      before[i] += group < share.group ? y[i] : 0;
      after[i] += last > share.group ? z[i] : 0;
    }
  }
  UNROLL for (int m = kRows - 1; m >= 0; --m)
    UNROLL for (int i = 0; i < 2; ++i) later[m][i] = after[i] += later[m][i];
  UNROLL for (int m = 0; m < kRows; ++m) {
    const int t = share.row + m;
    if (t >= share.tokens) continue;
    const Pack<2> w = read_w(in, share, t);
    Pack<2> dw;
    UNROLL for (int i = 0; i < 2; ++i) {
      const float all = prims::exp(c.mid[i] + c.rest[i]) * crosses[i] + before[i] + later[m][i];
      dw[i] = all * log_decay<L == kWkv7V2SigmoidChunk>(w[i]).slope;
      before[i] += earlier[m][i];
    }
    const int64_t to = share.at + t * share.stride;
    if (in.w_is_bf16)
      write_global<2>(static_cast<bf16*>(out.dw) + to, dw);
    else
      write_global<2>(static_cast<float*>(out.dw) + to, dw);
  }
}

struct Backward {
  template <int N, int L>
  static int run(const Inputs& in, const Wkv7V2Chunks& chunks, const Wkv7V2Gradients& out) {
    const int64_t slots = slots_of(in);
    return launch_with_arena({in.device, in.stream}, gradients<N, L>, in.B * in.H * slots * (N / kColumns),
                             Plan<N, L>::kThreads,
                             Plan<N, L>::kArena, in, chunks, out, slots);
  }
};

}  // namespace

int wkv7_v2_gradients(const Inputs* in, const Wkv7V2Chunks* chunks, const Wkv7V2Gradients* out) {
  return with_sizes<Backward>(*in, *chunks, *out);
}
