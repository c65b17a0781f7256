// The WKV7 operator on a GPU: plain pointers in, plain pointers out, no torch and no CUDA headers.
//
// Tensors r..b, y and their gradients are contiguous [B,T,H,N], float or bf16; states are contiguous [B,H,N,N] float,
// rows = value index, columns = key index. Pointers are aligned to 16 bytes. All memory is the device's, and the calls
// return as soon as the work is queued: 0, or an error that wkv7_cuda_error puts into words.
#pragma once

#include <stdint.h>

extern "C" {

// Tokens between two saved states: checkpoint i is the state before token i * kWkv7CudaCheckpointEvery.
enum { kWkv7CudaCheckpointEvery = 128, kWkv7CudaSegment = 8 };

struct Wkv7CudaInputs {
  int64_t B, T, H, N;
  int32_t sigmoid;   // which decay w stands for
  int32_t is_bf16;   // r, k, v, a, b, y and all gradients but dw; otherwise float
  int32_t w_is_bf16; // w and dw
  int32_t device;
  void* stream;
  const void *r, *w, *k, *v, *a, *b;
  const float* s0;   // or null: zeros
  const int32_t* p;  // [B], held to 0..T; or null: nothing is captured
};

struct Wkv7CudaOutputs {
  void* y;
  float* cap;          // null if and only if p is
  float* final_state;  // or null
  float* checkpoints;  // [B*H, ceil(T / kWkv7CudaCheckpointEvery), N, N], or null
};

struct Wkv7CudaGradients {
  const void* dy;            // or null: zeros
  const float* dcap;         // or null: zeros
  const float* checkpoints;
  float* adjoint;            // [B,H,N,N]: the gradient of the final state on entry, of s0 on return
  float* states;             // workspace [B*H, kWkv7CudaCheckpointEvery / kWkv7CudaSegment, N, N]
  float* partials;           // workspace [B*H, kWkv7CudaCheckpointEvery, panels(N), 5, N]
  void *dr, *dw, *dk, *dv, *da, *db;
};

// Value rows are swept in panels, one a block; each leaves its share of the key-side gradients in `partials`.
int64_t wkv7_cuda_panels(int64_t N);
int wkv7_cuda_forward(const Wkv7CudaInputs*, const Wkv7CudaOutputs*);
int wkv7_cuda_backward(const Wkv7CudaInputs*, const Wkv7CudaGradients*);
const char* wkv7_cuda_error(int error);
}
