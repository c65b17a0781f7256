// The states, chunk after chunk, and what needs them: y and u; or in reverse the states' gradients, dv and z. It is one
// recurrence (wkv7_v2.h), so one kernel. A block goes through the chunks of one head, or a segment of them, for 64 value
// rows; a warp has 16 of those, whose states stay in its registers as sums of matrix products.
//
// With value rows as rows of a product, sums lie as the next product's operand does: S for U^T = U0^T + S W^T, and U^T
// for S + U^T B^. So nothing goes through shared memory but the chunk's tiles, which arrive while the chunk before is
// worked on.

#include "wkv7_tiles.h"

namespace {

using namespace tiles;

constexpr int kPanel = 64;              // value rows of a block
constexpr int kThreads = kPanel / 16 * kWarp;

template <int N, int L>
struct Plan {
  static constexpr int kWide = N + kPad, kNarrow = L + kPad, kValues = kPanel + kPad;  // pitches
  static constexpr int kArena = 4 * shared_bytes<bf16>(2 * L * kWide) + 2 * shared_bytes<bf16>(2 * L * kValues) +
                                2 * shared_bytes<bf16>(2 * L * kNarrow) + shared_bytes<float>(2 * N);
  static_assert(kArena <= kSharedBytes);
};

template <int N, int L, bool kBackward, bool kWithY>
KERNEL(kThreads, 1) void scan(Inputs in, Wkv7V2Side side, const float* keep_, Wkv7V2Scan run, int64_t slots) {
  using P = Plan<N, L>;
  // Two stages each: rows 0 to L - 1 and L to 2 L - 1.
  SharedArena arena;
  const Tile w = arena.take<bf16>("w", 2 * L * P::kWide), k = arena.take<bf16>("k", 2 * L * P::kWide);
  const Tile b = arena.take<bf16>("b", 2 * L * P::kWide), r = arena.take<bf16>("r", 2 * L * P::kWide);
  const Tile u_0 = arena.take<bf16>("u", 2 * L * P::kValues), v = arena.take<bf16>("v", 2 * L * P::kValues);
  const Tile m_v = arena.take<bf16>("m_v", 2 * L * P::kNarrow), m_u = arena.take<bf16>("m_u", 2 * L * P::kNarrow);
  const Shared<float> keep = arena.take<float>("keep", 2 * N);

  constexpr int kPanels = N / kPanel;
  const int segments = int((slots + run.segment - 1) / run.segment);
  const int segment = int(block_index() / kPanels % segments);
  const Head<N, L> head(in, block_index() / kPanels / segments);
  const int from = segment * int(run.segment);
  const int to = from + int(run.segment) < head.count ? from + int(run.segment) : head.count;
  if (from >= to) return;
  const int panel = int(block_index() % kPanels) * kPanel, row = 16 * warp();  // of the block; of the warp in it
  const auto of = [](void* tensor) { return static_cast<bf16*>(tensor); };
  const auto in_state = [&](int64_t state) { return (state * N + panel + row) * N; };  // this warp's rows of a state

  const auto bring = [&](int chunk, int stage) {
    const int64_t slot = head.index * slots + chunk;
    const int first = stage * L;
    copy_rows<N, L, kThreads>(w, P::kWide, first, of(side.w) + slot * L * N, N);
    copy_rows<N, L, kThreads>(k, P::kWide, first, of(side.k) + slot * L * N, N);
    copy_rows<N, L, kThreads>(b, P::kWide, first, of(side.b) + slot * L * N, N);
    copy_rows<kPanel, L, kThreads>(u_0, P::kValues, first, of(side.u) + slot * L * N + panel, N);
    const bf16* values = static_cast<const bf16*>(run.v ? run.v : in.v);
    copy_tokens<kPanel, L, kThreads>(v, P::kValues, first, values + head.first + head.begin(chunk) * head.stride + panel,
                                   head.stride, run.v ? head.tokens(chunk) : 0);
    for (int i = 4 * thread_index(); i < N; i += 4 * kThreads)
      copy_async(keep, stage * N + i, keep_ + slot * N + i, true);
    if (kWithY) {
      copy_rows<N, L, kThreads>(r, P::kWide, first, of(side.r) + slot * L * N, N);
      copy_rows<L, L, kThreads>(m_v, P::kNarrow, first, of(side.m_v) + slot * L * L, L);
      copy_rows<L, L, kThreads>(m_u, P::kNarrow, first, of(side.m_u) + slot * L * L, L);
    }
  };
  bring(kBackward ? to - 1 : from, 0);
  end_group_of_copies();

  Block S[N / 16];
  const auto each_pair = [&](const auto& use) {  // use(a pair of S, where it is in a warp's rows of a state)
    UNROLL for (int j = 0; j < N / 16; ++j)
      UNROLL for (int half = 0; half < 2; ++half)
        UNROLL for (int i = 0; i < 2; ++i)
          use(S[j].x[half][2 * i], S[j].x[half][2 * i + 1], Block::row(i) * N + 16 * j + Block::column(half));
  };
  const auto add = [&](const auto* state) {
    each_pair([&](float& x, float& y, int at) {
      const Pack<2> more = read_global<2>(state + at);
      x += more[0];
      y += more[1];
    });
  };
  const auto write = [&](float* state) {
    each_pair([&](float x, float y, int at) { write_global<2>(state + at, Pack<2>{{x, y}}); });
  };
  const auto come_to = [&](int border) {  // between chunk border - 1 and chunk border
    if (border != head.before_p) return;
    if (run.at_p_add) add(run.at_p_add + in_state(head.index));
    if (run.at_p) write(run.at_p + in_state(head.index));
  };
  if (run.restart) add(static_cast<const bf16*>(run.restart) + in_state(head.index * segments + segment));
  if (run.start) add(run.start + in_state(head.index));

  for (int n = 0; n < to - from; ++n) {
    const int chunk = kBackward ? to - 1 - n : from + n;
    const int stage = n % 2 * L;
    if (n + 1 < to - from) bring(kBackward ? chunk - 1 : chunk + 1, (n + 1) % 2);
    end_group_of_copies();
    come_to(kBackward ? chunk + 1 : chunk);
    if (run.saved && chunk % int(run.save_every) == 0) {
      const int64_t saves = (slots + run.save_every - 1) / run.save_every;
      bf16* saved = of(run.saved) + in_state(head.index * saves + chunk / int(run.save_every));
      UNROLL for (int j = 0; j < N / 16; ++j) S[j].write(saved + 16 * j, N);
    }
    wait_for_copies<1>();
    sync_block();

    Block u[L / 16], y[L / 16];
    uint32_t u_a[L / 16][4], v_a[L / 16][4], x[4];
    UNROLL for (int t = 0; t < L / 16; ++t) {
      read_a_transposed(x, u_0, P::kValues, stage + 16 * t, row);
      UNROLL for (int i = 0; i < 4; ++i) {
        const Pack<2> both = unpack(x[i]);
        u[t].x[i / 2][i % 2 * 2] = both[0];
        u[t].x[i / 2][i % 2 * 2 + 1] = both[1];
      }
      read_a_transposed(v_a[t], v, P::kValues, stage + 16 * t, row);
    }
    UNROLL for (int j = 0; j < N / 16; ++j) {
      uint32_t s_a[4];
      S[j].as_a(s_a);
      UNROLL for (int t = 0; t < L / 16; ++t) {
        read_b_transposed(x, w, P::kWide, stage + 16 * t, 16 * j);
        u[t].add_product(s_a, x);
        if (!kWithY) continue;
        read_b_transposed(x, r, P::kWide, stage + 16 * t, 16 * j);
        y[t].add_product(s_a, x);
      }
    }
    UNROLL for (int t = 0; t < L / 16; ++t) u[t].as_a(u_a[t]);

    UNROLL for (int j = 0; j < N / 16; ++j) {
      UNROLL for (int half = 0; half < 2; ++half) {
        const Pack<2> factor = read_shared<2>(keep, n % 2 * N + 16 * j + Block::column(half));
        UNROLL for (int e = 0; e < 4; ++e) S[j].x[half][e] *= factor[e % 2];
      }
      UNROLL for (int t = 0; t < L / 16; ++t) {
        read_b(x, k, P::kWide, stage + 16 * t, 16 * j);
        S[j].add_product(v_a[t], x);
        read_b(x, b, P::kWide, stage + 16 * t, 16 * j);
        S[j].add_product(u_a[t], x);
      }
    }

    if (kWithY) {
      UNROLL for (int t = 0; t < L / 16; ++t) {
        UNROLL for (int s = 0; s < L / 16; ++s) {
          if (kBackward ? s < t : s > t) continue;
          read_b_transposed(x, m_v, P::kNarrow, stage + 16 * t, 16 * s);
          y[t].add_product(v_a[s], x);
          read_b_transposed(x, m_u, P::kNarrow, stage + 16 * t, 16 * s);
          y[t].add_product(u_a[s], x);
        }
        const int64_t token = head.first + (head.begin(chunk) + 16 * t) * head.stride;
        y[t].write_transposed(of(run.y) + token + panel + row, head.stride, head.tokens(chunk) - 16 * t);
      }
    }
    if (run.keep_u)
      UNROLL for (int t = 0; t < L / 16; ++t)
        u[t].write_transposed(of(side.u) + ((head.index * slots + chunk) * L + 16 * t) * N + panel + row, N);
    sync_block();
  }
  come_to(kBackward ? from : to);
  if (run.end) write(run.end + in_state(head.index));
}

struct Scan {
  template <int N, int L>
  static int run(const Inputs& in, const Wkv7V2Chunks& chunks, const Wkv7V2Scan& run) {
    const int64_t slots = slots_of(in), segments = (slots + run.segment - 1) / run.segment;
    const auto kernel = run.backward ? scan<N, L, true, true>
                        : run.y      ? scan<N, L, false, true>
                                     : scan<N, L, false, false>;
    return launch_with_arena({in.device, in.stream}, kernel,
                             in.B * in.H * segments * (N / kPanel), kThreads, Plan<N, L>::kArena, in,
                             run.backward ? chunks.backward : chunks.forward, chunks.keep, run, slots);
  }
};

}  // namespace

int wkv7_v2_scan(const Inputs* in, const Wkv7V2Chunks* chunks, const Wkv7V2Scan* run) {
  return with_sizes<Scan>(*in, *chunks, *run);
}
