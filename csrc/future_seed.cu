// Future-Seed preparation on a GPU: one block a head, its matrix in registers. Sums are trees of one fixed shape and
// there are no atomics: a result depends neither on the rest of the batch nor on what else the device does.

#include "future_seed.h"

#include "cuda_prims.h"

namespace {

using namespace prims;
using Inputs = future_seed::Inputs<float>;
using Gradients = future_seed::Gradients<float>;

// How a block shares out a matrix.
template <int N>
struct Shape {
  static constexpr int kPerThread = N * N / kWarp < 16 ? N * N / kWarp : 16;  // elements
  static constexpr int kThreads = N * N / kPerThread;
  static constexpr int kWidth = kPerThread < 4 ? kPerThread : 4;  // neighbours that are read at once
  static constexpr int kPacks = kPerThread / kWidth;
  static constexpr int kWarps = kThreads / kWarp;
};

// A thread's share of a matrix.
template <int N>
struct Share {
  using S = Shape<N>;
  Pack<S::kPerThread> x;

  static DEVICE int place(int pack) { return (pack * S::kThreads + thread_index()) * S::kWidth; }

  DEVICE explicit Share(const float* matrix) {
    UNROLL for (int i = 0; i < S::kPacks; ++i) {
      const Pack<S::kWidth> pack = read_global<S::kWidth>(matrix + place(i));
      UNROLL for (int c = 0; c < S::kWidth; ++c) x[i * S::kWidth + c] = pack[c];
    }
  }
  DEVICE void write(float* matrix) const {
    UNROLL for (int i = 0; i < S::kPacks; ++i) {
      Pack<S::kWidth> pack;
      UNROLL for (int c = 0; c < S::kWidth; ++c) pack[c] = x[i * S::kWidth + c];
      write_global<S::kWidth>(matrix + place(i), pack);
    }
  }
};

// What all threads of the block pass, added up; each gets the same bits. `between` holds a number a warp, for one use.
template <int kWarps>
DEVICE float sum_over_block(float x, Shared<float> between) {
  UNROLL for (int mask = 1; mask < kWarp; mask *= 2) x += from_lane_xor(x, mask);
  if (kWarps == 1) return x;
  if (thread_index() % kWarp == 0) write_shared<1>(between, thread_index() / kWarp, {x});
  sync_block();
  x = read_shared<1>(between, thread_index() % kWarps)[0];
  UNROLL for (int mask = 1; mask < kWarps; mask *= 2) x += from_lane_xor(x, mask);
  return x;
}

struct Scale {
  float by;       // C^ = by C
  bool at_floor;  // of the rms
};

template <int N>
DEVICE Scale scale_of(const Share<N>& C, Shared<float> between) {
  float squares = 0;
  UNROLL for (int i = 0; i < Shape<N>::kPerThread; ++i) squares = prims::fma(C.x[i], C.x[i], squares);
  const float rms = prims::sqrt(sum_over_block<Shape<N>::kWarps>(squares, between) / (N * N));
  const bool at_floor = rms < float(future_seed::kRmsFloor);  // not for a NaN, which stays one
  return {1 / (at_floor ? float(future_seed::kRmsFloor) : rms), at_floor};
}

template <int N>
KERNEL(Shape<N>::kThreads, 1) void forward(Inputs in, float* seed) {
  SHARED(float, squares, Shape<N>::kWarps);
  const int64_t at = block_index() * N * N;
  Share<N> C(in.captured + at);
  const float gate = read_global<1>(in.gate + block_index())[0];
  const float scale = in.norm ? scale_of(C, squares).by : 1;
  UNROLL for (int i = 0; i < Shape<N>::kPerThread; ++i) {
    const float z = gate * (scale * C.x[i]);
    C.x[i] = z < -in.clip ? -in.clip : z > in.clip ? in.clip : z;
  }
  C.write(seed + at);
}

template <int N>
KERNEL(Shape<N>::kThreads, 1) void backward(Inputs in, const float* dseed, Gradients out) {
  SHARED(float, squares, Shape<N>::kWarps);
  SHARED(float, products, Shape<N>::kWarps);
  const int64_t at = block_index() * N * N;
  const Share<N> C(in.captured + at);
  Share<N> dz(dseed + at);
  const float gate = read_global<1>(in.gate + block_index())[0];
  const Scale scale = in.norm ? scale_of(C, squares) : Scale{1, true};
  float share = 0;
  UNROLL for (int i = 0; i < Shape<N>::kPerThread; ++i) {
    const float unit = scale.by * C.x[i], z = gate * unit;
    if (!(z >= -in.clip && z <= in.clip)) dz.x[i] = 0;
    share = prims::fma(dz.x[i], unit, share);
  }
  const float dgate = sum_over_block<Shape<N>::kWarps>(share, products);
  if (out.dgate && thread_index() == 0) write_global<1>(out.dgate + block_index(), {dgate});
  if (!out.dcaptured) return;
  const float mean = scale.at_floor ? 0 : gate * dgate / (N * N);  // of dC^ C^
  UNROLL for (int i = 0; i < Shape<N>::kPerThread; ++i)
    dz.x[i] = (gate * dz.x[i] - scale.by * C.x[i] * mean) * scale.by;
  dz.write(out.dcaptured + at);
}

constexpr int kInvalidValue = 1;  // cudaErrorInvalidValue

struct Forward {
  template <int N>
  static int run(Queue queue, const Inputs& in, float* seed) {
    return launch(queue, forward<N>, in.heads, Shape<N>::kThreads, in, seed);
  }
};

struct Backward {
  template <int N>
  static int run(Queue queue, const Inputs& in, const float* dseed, const Gradients& out) {
    return launch(queue, backward<N>, in.heads, Shape<N>::kThreads, in, dseed, out);
  }
};

template <class Pass, class... Arguments>
int with_head_size(Queue queue, const Inputs& in, const Arguments&... arguments) {
  switch (in.N) {
    case 8: return Pass::template run<8>(queue, in, arguments...);
    case 16: return Pass::template run<16>(queue, in, arguments...);
    case 32: return Pass::template run<32>(queue, in, arguments...);
    case 64: return Pass::template run<64>(queue, in, arguments...);
    case 128: return Pass::template run<128>(queue, in, arguments...);
    default: return kInvalidValue;
  }
}

}  // namespace

int future_seed_cuda_forward(const Inputs* in, float* seed, int device, void* stream) {
  return with_head_size<Forward>({device, stream}, *in, seed);
}
int future_seed_cuda_backward(const Inputs* in, const float* dseed, const Gradients* out, int device, void* stream) {
  return with_head_size<Backward>({device, stream}, *in, dseed, *out);
}
const char* future_seed_cuda_error(int error) { return prims::error_text(error); }
