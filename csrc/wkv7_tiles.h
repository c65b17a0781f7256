// What the three kernels of the chunked WKV7 operator share: where a chunk lies, decays within it, and products of
// tiles, which are matrices of bf16 in shared memory. Formulas: wkv7_v2.h.
#pragma once

#include "cuda_prims.h"
#include "wkv7_math.h"
#include "wkv7_v2.h"

namespace tiles {

using namespace prims;
using Inputs = Wkv7CudaInputs;
using Tile = Shared<bf16>;

constexpr int kPad = 8;  // numbers after each row of a tile: eight rows then lie in different banks

// All numbers of tokens and chunks are below 2^30: a launch's blocks would not be enough for more.
constexpr int chunk_length(bool sigmoid) { return sigmoid ? kWkv7V2SigmoidChunk : kWkv7V2ExpChunk; }
inline int64_t slots_of(const Inputs& in) {
  const int64_t L = chunk_length(in.sigmoid);
  return (in.T + L - 1) / L + (in.p != nullptr);
}

// A head and its chunks.
template <int N, int L>
struct Head {
  const int64_t index;           // b * H + h
  const int64_t first, stride;   // token t of a [B,T,H,N] tensor is at first + t * stride
  int p, T;
  int before_p, count;           // chunks

  DEVICE Head(const Inputs& in, int64_t index)
      : index(index), first((index / in.H * in.T * in.H + index % in.H) * N), stride(in.H * N), p(int(in.T)),
        T(int(in.T)) {
    if (in.p) p = read_global(in.p + index / in.H);
    p = p < 0 ? 0 : p > T ? T : p;
    before_p = (p + L - 1) / L;
    count = before_p + (T - p + L - 1) / L;
  }
  DEVICE int begin(int chunk) const { return chunk < before_p ? chunk * L : p + (chunk - before_p) * L; }
  DEVICE int tokens(int chunk) const {
    const int left = (chunk < before_p ? p : T) - begin(chunk);
    return left < L ? left : L;
  }
};

// Two neighbouring columns of a few consecutive tokens: a thread's share of what is done number by number. A block of
// `groups` times half as many threads as columns covers a chunk; `group` says which part of its tokens.
template <int N, int L, int columns, int groups>
struct Share {
  static constexpr int kRows = L / groups;
  const int group = thread_index() / (columns / 2), row = group * kRows;
  const int local = thread_index() % (columns / 2) * 2, column;  // within the block's columns; within N
  int64_t at;                                                    // of token 0 of the chunk, in a [B,T,H,N] tensor
  int64_t stride;
  int tokens;

  DEVICE Share(const Head<N, L>& head, int chunk, int first_column)
      : column(first_column + local), at(head.first + head.begin(chunk) * head.stride + column), stride(head.stride),
        tokens(head.tokens(chunk)) {}

  // Zeros where there is no such token.
  DEVICE Pack<2> read(const void* tensor, int t) const {
    if (t < 0 || t >= tokens) return {};
    return read_global<2>(static_cast<const bf16*>(tensor) + at + t * stride);
  }
  DEVICE void write(void* tensor, int t, const Pack<2>& x) const {
    if (t < tokens) write_global<2>(static_cast<bf16*>(tensor) + at + t * stride, x);
  }
};

struct Exp {
  DEVICE float operator()(float x) const { return prims::exp(x); }
};

// The log decay of raw input x and its slope. An exponential decay is held to at least -10; what it then takes part in
// is in proportion to the decay itself, so the slope has the factor by which that was raised.
template <bool sigmoid>
DEVICE wkv7::LogDecay<float> log_decay(float x) {
  if (sigmoid) return wkv7::sigmoid_log_decay(x, Exp{}, float(wkv7::kDecayScale));
  const auto decay = wkv7::exp_log_decay(x, Exp{});
  if (decay.log < -10) return {-10, decay.slope * prims::exp(decay.log + 10)};
  return decay;
}

// The raw decay inputs of one of a thread's tokens, which there must be.
template <int N, int L, int columns, int groups>
DEVICE Pack<2> read_w(const Inputs& in, const Share<N, L, columns, groups>& share, int t) {
  const int64_t from = share.at + t * share.stride;
  return in.w_is_bf16 ? read_global<2>(static_cast<const bf16*>(in.w) + from)
                      : read_global<2>(static_cast<const float*>(in.w) + from);
}

// c of a thread's tokens, centred on the last token of the chunk's first half: before[m] is c_{t-1} - c_mid and
// before[m + 1] c_t - c_mid for t = row + m. `totals` is [groups, columns].
template <int N, int L, int columns, int groups>
struct Decays {
  static constexpr int kRows = L / groups;
  float before[kRows + 1][2];
  Pack<2> mid = {}, rest = {};  // c_mid, c_L - c_mid

  DEVICE Decays(const Inputs& in, const Share<N, L, columns, groups>& share, Shared<float> totals) {
    float sum[kRows][2];
    Pack<2> total = {}, start = {};
    UNROLL for (int m = 0; m < kRows; ++m) {
      Pack<2> log = {};
      if (share.row + m < share.tokens) {
        const Pack<2> w = read_w(in, share, share.row + m);
        UNROLL for (int c = 0; c < 2; ++c) log[c] = log_decay<L == kWkv7V2SigmoidChunk>(w[c]).log;
      }
      UNROLL for (int c = 0; c < 2; ++c) sum[m][c] = total[c] += log[c];
    }
    write_shared<2>(totals, share.group * columns + share.local, total);
    sync_block();
    UNROLL for (int group = 0; group < groups; ++group) {  // outwards from the middle: no large sum less another
      const Pack<2> of = read_shared<2>(totals, group * columns + share.local);
      UNROLL for (int c = 0; c < 2; ++c) {
        if (group < groups / 2) {
          mid[c] += of[c];
          start[c] -= group >= share.group ? of[c] : 0;
        } else {
          rest[c] += of[c];
          start[c] += group < share.group ? of[c] : 0;
        }
      }
    }
    UNROLL for (int c = 0; c < 2; ++c) {
      before[0][c] = start[c];
      UNROLL for (int m = 0; m < kRows; ++m) before[m + 1][c] = start[c] + sum[m][c];
    }
  }
};

// Blocks of 16x16 of a tile as operands; `pitch` numbers from one row to the next. Lane numbers are within a warp.
DEVICE int lane() { return thread_index() % kWarp; }
DEVICE int warp() { return thread_index() / kWarp; }

// A of which the tile has rows from m, columns from k.
DEVICE void read_a(uint32_t (&a)[4], Tile tile, int pitch, int m, int k) {
  read_matrices(a, tile, (m + lane() % 16) * pitch + k + lane() / 16 * 8);
}
// A of which the tile has the transpose: rows from k, columns from m.
DEVICE void read_a_transposed(uint32_t (&a)[4], Tile tile, int pitch, int k, int m) {
  read_matrices_transposed(a, tile, (k + lane() % 8 + lane() / 16 * 8) * pitch + m + lane() / 8 % 2 * 8);
}
// B for columns n to n + 15, in two halves, of which the tile has rows from k, columns from n.
DEVICE void read_b(uint32_t (&b)[4], Tile tile, int pitch, int k, int n) {
  read_matrices_transposed(b, tile, (k + lane() % 16) * pitch + n + lane() / 16 * 8);
}
// The same of which the tile has the transpose: rows from n, columns from k.
DEVICE void read_b_transposed(uint32_t (&b)[4], Tile tile, int pitch, int n, int k) {
  read_matrices(b, tile, (n + lane() % 8 + lane() / 16 * 8) * pitch + k + lane() / 8 % 2 * 8);
}

// A 16x16 block of sums as D lies in registers, columns 0-7 and 8-15.
struct Block {
  float x[2][4] = {};

  DEVICE void add_product(const uint32_t (&a)[4], const uint32_t (&b)[4]) {
    multiply_add(x[0], a, b[0], b[1]);
    multiply_add(x[1], a, b[2], b[3]);
  }
  // Where its numbers [half][2 * i], [half][2 * i + 1] are: row(i), column(half) and the next.
  DEVICE static int row(int i) { return lane() / 4 + 8 * i; }
  DEVICE static int column(int half) { return lane() % 4 * 2 + 8 * half; }
  DEVICE uint32_t pair(int half, int i) const { return pack(x[half][2 * i], x[half][2 * i + 1]); }
  // As A of a product.
  DEVICE void as_a(uint32_t (&a)[4]) const {
    UNROLL for (int half = 0; half < 2; ++half)
      UNROLL for (int i = 0; i < 2; ++i) a[2 * half + i] = pair(half, i);
  }
  // Zero where keep(row, column) is false: by selection, for what it drops may be infinite.
  template <class Keep>
  DEVICE void select(const Keep& keep) {
    UNROLL for (int half = 0; half < 2; ++half)
      UNROLL for (int i = 0; i < 4; ++i)
        x[half][i] = keep(row(i / 2), column(half) + i % 2) ? x[half][i] : 0;
  }
  DEVICE void write(Tile tile, int pitch, int m, int n) const {
    UNROLL for (int half = 0; half < 2; ++half)
      UNROLL for (int i = 0; i < 2; ++i) write_shared(tile, (m + row(i)) * pitch + n + column(half), pair(half, i));
  }
  // To global memory: number (i, j) to to[i * stride + j].
  DEVICE void write(bf16* to, int64_t stride) const {
    UNROLL for (int i = 0; i < 2; ++i)
      UNROLL for (int half = 0; half < 2; ++half) write_global(to + row(i) * stride + column(half), pair(half, i));
  }
  // Number (i, j) to to[j * stride + i], for the first `columns` of j.
  DEVICE void write_transposed(bf16* to, int64_t stride, int columns = 16) const {
    UNROLL for (int half = 0; half < 2; ++half)
      UNROLL for (int i = 0; i < 2; ++i) {
        const uint32_t turned = transpose_matrix(pair(half, i));
        const int j = lane() / 4 + 8 * half;
        if (j < columns) write_global(to + j * stride + lane() % 4 * 2 + 8 * i, turned);
      }
  }
};

// The block starts to copy rows from global memory to rows of a tile from `first` on.
template <int columns, int rows, int threads>
DEVICE void copy_rows(Tile to, int pitch, int first, const bf16* from, int64_t stride) {
  constexpr int kPacks = columns / 8, kAll = rows * kPacks;
  UNROLL for (int begin = 0; begin < kAll; begin += threads) {
    const int i = begin + thread_index(), row = i / kPacks, column = i % kPacks * 8;
    if (begin + threads <= kAll || i < kAll)
      copy_async(to, (first + row) * pitch + column, from + row * stride + column, true);
  }
}
// The same of the tokens of a chunk; zeros from row `real` on.
template <int columns, int rows, int threads>
DEVICE void copy_tokens(Tile to, int pitch, int first, const bf16* from, int64_t stride, int real) {
  constexpr int kPacks = columns / 8, kAll = rows * kPacks;
  UNROLL for (int begin = 0; begin < kAll; begin += threads) {
    const int i = begin + thread_index(), row = i / kPacks, column = i % kPacks * 8;
    if (begin + threads <= kAll || i < kAll)
      copy_async(to, (first + row) * pitch + column, from + (row < real ? row * stride + column : 0), row < real);
  }
}

// Calls Pass::run<N, L>(arguments...) with the head size and the chunk length of a call; 1, which is
// cudaErrorInvalidValue, if there is no kernel for it.
template <class Pass, class... Arguments>
int with_sizes(const Inputs& in, const Arguments&... arguments) {
  if (!in.is_bf16) return 1;
  if (in.N == 64)
    return in.sigmoid ? Pass::template run<64, chunk_length(true)>(in, arguments...)
                      : Pass::template run<64, chunk_length(false)>(in, arguments...);
  if (in.N == 128)
    return in.sigmoid ? Pass::template run<128, chunk_length(true)>(in, arguments...)
                      : Pass::template run<128, chunk_length(false)>(in, arguments...);
  return 1;
}

}  // namespace tiles
