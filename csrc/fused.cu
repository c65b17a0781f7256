// The small operators of a layer on a GPU: a thread has four channels of a block's rows, and the threads of a head, all of
// one warp, add up through shuffles. Sums are trees of one fixed shape and there are no atomics: a result depends neither
// on the rest of the batch nor on what else the device does.

#include "fused.h"

#include "cuda_prims.h"

namespace {

using namespace prims;

constexpr int kWidth = 4, kMostThreads = 256;
constexpr int kRows = 4;  // of a block, where rows are not added up

using Four = Pack<kWidth>;

template <class T>
DEVICE Four read_four(const void* from, int64_t at) {
  return read_global<kWidth>(static_cast<const T*>(from) + at);
}
template <class T>
DEVICE void write_four(void* to, int64_t at, const Four& x) {
  write_global<kWidth>(static_cast<T*>(to) + at, x);
}
// With the precision of rows of type T.
template <class T>
DEVICE float rounded(float x) {
  return sizeof(T) == sizeof(bf16) ? unpack(pack(x, 0))[0] : x;
}
template <class T>
DEVICE Four rounded(Four x) {
  UNROLL for (int i = 0; i < kWidth; ++i) x[i] = rounded<T>(x[i]);
  return x;
}
DEVICE float dot(const Four& x, const Four& y) {
  float sum = 0;
  UNROLL for (int i = 0; i < kWidth; ++i) sum = prims::fma(x[i], y[i], sum);
  return sum;
}

// How a grid shares out rows and channels: blocks that are neighbours have the same rows.
struct Grid {
  int64_t M, C;
  int rows, threads, tiles;

  Grid(int64_t M, int64_t C, int rows) : M(M), C(C), rows(rows) {
    const int64_t wanted = (C / kWidth + kWarp - 1) / kWarp * kWarp;
    threads = int(wanted < kMostThreads ? wanted : kMostThreads);
    tiles = int((C / kWidth + threads - 1) / threads);
  }
  int64_t blocks() const { return (M + rows - 1) / rows * tiles; }
};

// A thread's share: channels [c, c + 4) of the rows [begin, end). Beyond the channels it only takes part in sums.
struct Share {
  int64_t chunk, begin, end, c;
  bool real;

  DEVICE explicit Share(const Grid& grid) {
    chunk = block_index() / grid.tiles;
    begin = chunk * grid.rows;
    end = begin + grid.rows < grid.M ? begin + grid.rows : grid.M;
    c = ((block_index() % grid.tiles) * grid.threads + thread_index()) * kWidth;
    real = c < grid.C;
  }
  template <class T>
  DEVICE Four read(const void* from, int64_t at) const {
    return real ? read_four<T>(from, at + c) : Four{};
  }
  template <class T>
  DEVICE void write(void* to, int64_t at, const Four& x) const {
    if (real) write_four<T>(to, at + c, x);
  }
};

// What the threads of a head of N pass, added up; each gets the same bits.
DEVICE float over_head(float x, int64_t N) {
  for (int mask = 1; mask < N / kWidth; mask *= 2) x += from_lane_xor(x, mask);
  return x;
}

template <class T, int kMixes>
KERNEL(kMostThreads, 1) void shift_mix(Grid grid, fused::ShiftMix<void> in, fused::ShiftMixOutputs<void> result) {
  const Share mine(grid);
  Four mix[kMixes];
  UNROLL for (int i = 0; i < kMixes; ++i) mix[i] = rounded<T>(mine.read<float>(in.mix[i], 0));
  Four before = mine.begin ? mine.read<T>(in.x, (mine.begin - 1) * in.C) : Four{};
  for (int64_t m = mine.begin; m < mine.end; ++m) {
    const Four x = mine.read<T>(in.x, m * in.C);
    if (m % in.T == 0) before = Four{};
    UNROLL for (int i = 0; i < kMixes; ++i) {
      Four out;
      UNROLL for (int j = 0; j < kWidth; ++j) out[j] = prims::fma(rounded<T>(before[j] - x[j]), mix[i][j], x[j]);
      mine.write<T>(result.out[i], m * in.C, out);
    }
    before = x;
  }
}

// From the last row to the first, so that what a row gives to the one before is at hand.
template <class T, int kMixes>
KERNEL(kMostThreads, 1) void shift_mix_backward(Grid grid, fused::ShiftMix<void> in,
                                                fused::ShiftMixGradients<void> grad) {
  const Share mine(grid);
  Four mix[kMixes], sum[kMixes], moved = {};
  UNROLL for (int i = 0; i < kMixes; ++i) {
    mix[i] = rounded<T>(mine.read<float>(in.mix[i], 0));
    sum[i] = Four{};
  }
  if (mine.end % in.T)  // the row after the last is of the same sample
    UNROLL for (int i = 0; i < kMixes; ++i) {
      const Four dout = mine.read<T>(grad.dout[i], mine.end * in.C);
      UNROLL for (int j = 0; j < kWidth; ++j) moved[j] = prims::fma(dout[j], mix[i][j], moved[j]);
    }
  Four x = mine.read<T>(in.x, (mine.end - 1) * in.C);
  for (int64_t m = mine.end - 1; m >= mine.begin; --m) {
    const bool first = m % in.T == 0;
    const Four row_before = m ? mine.read<T>(in.x, (m - 1) * in.C) : Four{}, before = first ? Four{} : row_before;
    Four stays = {}, moves = {}, dx;
    UNROLL for (int i = 0; i < kMixes; ++i) {
      const Four dout = mine.read<T>(grad.dout[i], m * in.C);
      UNROLL for (int j = 0; j < kWidth; ++j) {
        stays[j] += prims::fma(-dout[j], mix[i][j], dout[j]);
        moves[j] = prims::fma(dout[j], mix[i][j], moves[j]);
        sum[i][j] = prims::fma(dout[j], rounded<T>(before[j] - x[j]), sum[i][j]);
      }
    }
    UNROLL for (int j = 0; j < kWidth; ++j) dx[j] = stays[j] + moved[j];
    mine.write<T>(grad.dx, m * in.C, dx);
    moved = first ? Four{} : moves;
    x = row_before;
  }
  UNROLL for (int i = 0; i < kMixes; ++i) mine.write<float>(grad.sums, (mine.chunk * kMixes + i) * in.C, sum[i]);
}

// A row's keys in a thread's channels.
template <class T>
struct KeyShare {
  Four k, rate, u;
  float by;  // u = by z
  bool at_floor;

  DEVICE KeyShare(const Share& mine, const fused::Keys<void>& in, const Four& k_k, int64_t m)
      : k(mine.read<T>(in.k, m * in.C)), rate(mine.read<T>(in.rate, m * in.C)) {
    UNROLL for (int j = 0; j < kWidth; ++j) u[j] = k[j] * k_k[j];
    const float norm = prims::sqrt(over_head(dot(u, u), in.N));
    at_floor = norm < float(fused::kNormFloor);  // not for a NaN, which stays one
    by = 1 / (at_floor ? float(fused::kNormFloor) : norm);
    UNROLL for (int j = 0; j < kWidth; ++j) u[j] *= by;
  }
};

template <class T>
KERNEL(kMostThreads, 1) void keys(Grid grid, fused::Keys<void> in, fused::KeysOutputs<void> out) {
  const Share mine(grid);
  const Four k_k = mine.read<float>(in.k_k, 0), k_a = mine.read<float>(in.k_a, 0);
  for (int64_t m = mine.begin; m < mine.end; ++m) {
    const KeyShare<T> key(mine, in, k_k, m);
    Four forget, relearn, learn;
    UNROLL for (int j = 0; j < kWidth; ++j) {
      forget[j] = -key.u[j];
      relearn[j] = key.u[j] * key.rate[j];
      learn[j] = key.k[j] * prims::fma(key.rate[j] - 1, k_a[j], 1);
    }
    mine.write<T>(out.forget, m * in.C, forget);
    mine.write<T>(out.relearn, m * in.C, relearn);
    mine.write<T>(out.learn, m * in.C, learn);
  }
}

template <class T>
KERNEL(kMostThreads, 1) void keys_backward(Grid grid, fused::Keys<void> in, fused::KeysGradients<void> grad) {
  const Share mine(grid);
  const Four k_k = mine.read<float>(in.k_k, 0), k_a = mine.read<float>(in.k_a, 0);
  Four sum_k_k = {}, sum_k_a = {};
  for (int64_t m = mine.begin; m < mine.end; ++m) {
    const KeyShare<T> key(mine, in, k_k, m);
    const Four dforget = mine.read<T>(grad.dforget, m * in.C), drelearn = mine.read<T>(grad.drelearn, m * in.C);
    const Four dlearn = mine.read<T>(grad.dlearn, m * in.C);
    Four du, dk, drate;
    UNROLL for (int j = 0; j < kWidth; ++j) du[j] = prims::fma(key.rate[j], drelearn[j], -dforget[j]);
    const float products = over_head(dot(du, key.u), in.N);
    const float along = key.at_floor ? 0 : products;  // a change along u does not survive the division
    UNROLL for (int j = 0; j < kWidth; ++j) {
      const float less = key.rate[j] - 1, dz = (du[j] - key.u[j] * along) * key.by;
      dk[j] = prims::fma(k_k[j], dz, dlearn[j] * prims::fma(less, k_a[j], 1));
      drate[j] = prims::fma(key.u[j], drelearn[j], key.k[j] * k_a[j] * dlearn[j]);
      sum_k_k[j] = prims::fma(key.k[j], dz, sum_k_k[j]);
      sum_k_a[j] = prims::fma(key.k[j] * less, dlearn[j], sum_k_a[j]);
    }
    mine.write<T>(grad.dk, m * in.C, dk);
    mine.write<T>(grad.drate, m * in.C, drate);
  }
  mine.write<float>(grad.sums, 2 * mine.chunk * in.C, sum_k_k);
  mine.write<float>(grad.sums, (2 * mine.chunk + 1) * in.C, sum_k_a);
}

// What belongs to a thread's channels.
template <class T>
struct ReadoutChannels {
  Four r_k, weight, bias;

  DEVICE ReadoutChannels(const Share& mine, const fused::Readout<void>& in)
      : r_k(rounded<T>(mine.template read<float>(in.r_k, 0))),
        weight(mine.template read<float>(in.weight, 0)),
        bias(mine.template read<float>(in.bias, 0)) {}
};

// A row's readout in a thread's channels.
template <class T>
struct ReadoutShare {
  Four r, k, v, gate, n, s;
  float by, bonus;  // n = by (y - mean)

  DEVICE ReadoutShare(const Share& mine, const fused::Readout<void>& in, const ReadoutChannels<T>& of, int64_t m)
      : r(mine.read<T>(in.r, m * in.C)),
        k(mine.read<T>(in.k, m * in.C)),
        v(mine.read<T>(in.v, m * in.C)),
        gate(mine.read<T>(in.gate, m * in.C)),
        n(mine.read<T>(in.y, m * in.C)) {
    float sum = 0, products = 0;
    UNROLL for (int j = 0; j < kWidth; ++j) {
      sum += n[j];
      products += rounded<T>(rounded<T>(r[j] * k[j]) * of.r_k[j]);
    }
    const float mean = over_head(sum, in.N) / float(in.N);
    bonus = rounded<T>(over_head(products, in.N));
    UNROLL for (int j = 0; j < kWidth; ++j) n[j] -= mean;
    by = 1 / prims::sqrt(over_head(dot(n, n), in.N) / float(in.N) + in.eps);
    UNROLL for (int j = 0; j < kWidth; ++j) {
      n[j] *= by;
      s[j] = rounded<T>(rounded<T>(prims::fma(n[j], of.weight[j], of.bias[j])) + rounded<T>(bonus * v[j]));
    }
  }
};

template <class T>
KERNEL(kMostThreads, 1) void readout(Grid grid, fused::Readout<void> in, fused::ReadoutOutputs<void> result) {
  const Share mine(grid);
  const ReadoutChannels<T> of(mine, in);
  for (int64_t m = mine.begin; m < mine.end; ++m) {
    const ReadoutShare<T> row(mine, in, of, m);
    Four out;
    UNROLL for (int j = 0; j < kWidth; ++j) out[j] = row.s[j] * row.gate[j];
    mine.write<T>(result.out, m * in.C, out);
  }
}

template <class T>
KERNEL(kMostThreads, 1) void readout_backward(Grid grid, fused::Readout<void> in, fused::ReadoutGradients<void> grad) {
  const Share mine(grid);
  const ReadoutChannels<T> of(mine, in);
  Four sum_r_k = {}, sum_weight = {}, sum_bias = {};
  for (int64_t m = mine.begin; m < mine.end; ++m) {
    const ReadoutShare<T> row(mine, in, of, m);
    const Four dout = mine.read<T>(grad.dout, m * in.C);
    Four ds, dn, dgate, dy, dr, dk, dv;
    float sum = 0;
    UNROLL for (int j = 0; j < kWidth; ++j) {
      dgate[j] = row.s[j] * dout[j];
      ds[j] = row.gate[j] * dout[j];
      dv[j] = row.bonus * ds[j];
      dn[j] = of.weight[j] * ds[j];
      sum += dn[j];
    }
    const float dbonus = over_head(dot(ds, row.v), in.N), mean = over_head(sum, in.N) / float(in.N);
    const float along = over_head(dot(dn, row.n), in.N) / float(in.N);
    UNROLL for (int j = 0; j < kWidth; ++j) {
      dy[j] = (dn[j] - mean - row.n[j] * along) * row.by;
      dr[j] = dbonus * row.k[j] * of.r_k[j];
      dk[j] = dbonus * row.r[j] * of.r_k[j];
      sum_r_k[j] = prims::fma(dbonus * row.r[j], row.k[j], sum_r_k[j]);
      sum_weight[j] = prims::fma(row.n[j], ds[j], sum_weight[j]);
      sum_bias[j] += ds[j];
    }
    mine.write<T>(grad.dgate, m * in.C, dgate);
    mine.write<T>(grad.dv, m * in.C, dv);
    mine.write<T>(grad.dy, m * in.C, dy);
    mine.write<T>(grad.dr, m * in.C, dr);
    mine.write<T>(grad.dk, m * in.C, dk);
  }
  mine.write<float>(grad.sums, 3 * mine.chunk * in.C, sum_r_k);
  mine.write<float>(grad.sums, (3 * mine.chunk + 1) * in.C, sum_weight);
  mine.write<float>(grad.sums, (3 * mine.chunk + 2) * in.C, sum_bias);
}

DEVICE float positive(float x) { return x < 0 ? 0 : x; }  // a NaN stays one

template <class T>
KERNEL(kMostThreads, 1) void squared_relu(Grid grid, fused::SquaredRelu<void> in, fused::SquaredReluOutputs<void> out) {
  const Share mine(grid);
  for (int64_t m = mine.begin; m < mine.end; ++m) {
    Four x = mine.read<T>(in.x, m * in.C);
    UNROLL for (int j = 0; j < kWidth; ++j) x[j] = positive(x[j]) * positive(x[j]);
    mine.write<T>(out.y, m * in.C, x);
  }
}

template <class T>
KERNEL(kMostThreads, 1) void squared_relu_backward(Grid grid, fused::SquaredRelu<void> in,
                                                   fused::SquaredReluGradients<void> grad) {
  const Share mine(grid);
  for (int64_t m = mine.begin; m < mine.end; ++m) {
    const Four x = mine.read<T>(in.x, m * in.C);
    Four dx = mine.read<T>(grad.dy, m * in.C);
    UNROLL for (int j = 0; j < kWidth; ++j) dx[j] *= 2 * positive(x[j]);
    mine.write<T>(grad.dx, m * in.C, dx);
  }
}

constexpr int kSlices = kMostThreads / kWarp;

// total [columns] = the sums [chunks, columns] added up: each warp of a block takes every eighth chunk of 32 columns.
KERNEL(kMostThreads, 1) void add_up(const float* sums, int64_t chunks, int64_t columns, float* total) {
  SHARED(float, between, kMostThreads);
  const int slice = thread_index() / kWarp;
  const int64_t column = block_index() * kWarp + thread_index() % kWarp;
  float sum = 0;
  if (column < columns)
    for (int64_t i = slice; i < chunks; i += kSlices) sum += read_global<1>(sums + i * columns + column)[0];
  write_shared<1>(between, thread_index(), {sum});
  sync_block();
  if (slice || column >= columns) return;
  for (int i = 1; i < kSlices; ++i) sum += read_shared<1>(between, i * kWarp + thread_index())[0];
  write_global<1>(total + column, {sum});
}

template <class In, class Out>
using Pass = void (*)(Grid, In, Out);

template <class In, class Out>
int run(const FusedCudaLaunch& where, Pass<In, Out> floats, Pass<In, Out> bf16s, const In& in, const Out& out) {
  const Grid grid(in.M, in.C, kRows);
  return launch({where.device, where.stream}, where.bf16 ? bf16s : floats, grid.blocks(), grid.threads, grid, in, out);
}

template <class In, class Gradients>
int run_backward(const FusedCudaLaunch& where, Pass<In, Gradients> floats, Pass<In, Gradients> bf16s, const In& in,
                 const Gradients& grad, int64_t count, float* total) {
  const Grid grid(in.M, in.C, fused::kChunk);
  const Queue queue = {where.device, where.stream};
  if (const int error = launch(queue, where.bf16 ? bf16s : floats, grid.blocks(), grid.threads, grid, in, grad))
    return error;
  const int64_t columns = count * in.C;
  return launch(queue, add_up, (columns + kWarp - 1) / kWarp, kMostThreads, grad.sums, fused::num_chunks(in.M), columns,
                total);
}

constexpr int kInvalidValue = 1;  // cudaErrorInvalidValue

}  // namespace

int fused_cuda_shift_mix(const FusedCudaLaunch* where, const fused::ShiftMix<void>* in,
                         const fused::ShiftMixOutputs<void>* out) {
  if (in->mixes == 1) return run(*where, shift_mix<float, 1>, shift_mix<bf16, 1>, *in, *out);
  if (in->mixes == 6) return run(*where, shift_mix<float, 6>, shift_mix<bf16, 6>, *in, *out);
  return kInvalidValue;
}
int fused_cuda_shift_mix_backward(const FusedCudaLaunch* where, const fused::ShiftMix<void>* in,
                                  const fused::ShiftMixGradients<void>* grad, float* total) {
  if (in->mixes == 1)
    return run_backward(*where, shift_mix_backward<float, 1>, shift_mix_backward<bf16, 1>, *in, *grad, 1, total);
  if (in->mixes == 6)
    return run_backward(*where, shift_mix_backward<float, 6>, shift_mix_backward<bf16, 6>, *in, *grad, 6, total);
  return kInvalidValue;
}
int fused_cuda_keys(const FusedCudaLaunch* where, const fused::Keys<void>* in, const fused::KeysOutputs<void>* out) {
  return run(*where, keys<float>, keys<bf16>, *in, *out);
}
int fused_cuda_keys_backward(const FusedCudaLaunch* where, const fused::Keys<void>* in,
                             const fused::KeysGradients<void>* grad, float* total) {
  return run_backward(*where, keys_backward<float>, keys_backward<bf16>, *in, *grad, 2, total);
}
int fused_cuda_readout(const FusedCudaLaunch* where, const fused::Readout<void>* in,
                       const fused::ReadoutOutputs<void>* out) {
  return run(*where, readout<float>, readout<bf16>, *in, *out);
}
int fused_cuda_readout_backward(const FusedCudaLaunch* where, const fused::Readout<void>* in,
                                const fused::ReadoutGradients<void>* grad, float* total) {
  return run_backward(*where, readout_backward<float>, readout_backward<bf16>, *in, *grad, 3, total);
}
int fused_cuda_squared_relu(const FusedCudaLaunch* where, const fused::SquaredRelu<void>* in,
                            const fused::SquaredReluOutputs<void>* out) {
  return run(*where, squared_relu<float>, squared_relu<bf16>, *in, *out);
}
int fused_cuda_squared_relu_backward(const FusedCudaLaunch* where, const fused::SquaredRelu<void>* in,
                                     const fused::SquaredReluGradients<void>* grad) {
  return run(*where, squared_relu_backward<float>, squared_relu_backward<bf16>, *in, *grad);
}
const char* fused_cuda_error(int error) { return prims::error_text(error); }
