// The chunked WKV7 operator on a GPU's matrix units: three kernels, and the memory that they pass to one another. As in
// wkv7_cuda.h, plain pointers and no torch; the inputs are the same, all bf16 but w, and N is 64 or 128.
//
// Every sample's tokens are cut into chunks of L, from 0 and again from p, so that a state to be captured lies between
// two chunks. With c_t the sum of the log decays up to and with token t of a chunk, [L,N] matrices of its tokens
//   A~_t = a_t e^{c_{t-1}}    R~_t = r_t e^{c_t}    K^_s = k_s e^{c_L - c_s}    B^_s = b_s e^{c_L - c_s}
//   K-_s = k_s e^{-c_s}       B-_s = b_s e^{-c_s}
//   M_ab = tril(A~ B-^T, -1)  M_ak = tril(A~ K-^T, -1)  M_rb = tril(R~ B-^T)  M_rk = tril(R~ K-^T)  T = (I - M_ab)^-1
// and S the state before it, a chunk's outputs Y, the state after it, and its gradients from dY and D, the gradient of
// the state after it, are
//   U = T M_ak V + T A~ S^T           Y  = R~ S^T + M_rk V + M_rb U            S' = S e^{c_L} + V^T K^ + U^T B^
//   Z = T^T M_rb^T dY + T^T B^ D^T    dV = K^ D^T + M_rk^T dY + M_ak^T Z       D' = D e^{c_L} + dY^T R~ + Z^T A~
// which is one recurrence twice: Wkv7V2Side has what either takes of a chunk.
#pragma once

#include "wkv7_cuda.h"

extern "C" {

// L for either decay; and tokens, in whole chunks, between two states that the forward pass saves. An exponential decay
// is held to at least e^-10 a token so that
// e^{c_t - c_s} stays within a float's range.
enum { kWkv7V2SigmoidChunk = 32, kWkv7V2ExpChunk = 16, kWkv7V2CheckpointEvery = 128 };

// Of every chunk [B*H, slots, ...]; the scan makes `u` of `u0`, in place.
struct Wkv7V2Side {
  void *w, *u;       // [L,N]: T A~ and T M_ak V       or T^T B^ and T^T M_rb^T dY
  void *k, *b, *r;   // [L,N]: K^, B^, R~              or R~, A~, K^
  void *m_v, *m_u;   // [L,L]: M_rk, M_rb              or M_rk^T, M_ak^T
};

struct Wkv7V2Chunks {
  Wkv7V2Side forward, backward;
  float* keep;  // [B*H, slots, N]: e^{c_L}
};

// How the scan goes through the chunks.
struct Wkv7V2Scan {
  int32_t backward;          // from the last chunk to the first, with chunks.backward and dy for v
  const float* start;        // [B,H,N,N]: the state before the first chunk it comes to, or null: zeros
  const void* restart;       // [B*H, ceil(slots / segment), N, N] bf16: the state before each segment, or null
  int64_t segment;           // chunks that a block goes through, counted from the first
  const void* v;             // [B,T,H,N] V or dY, or null: zeros
  void* y;                   // [B,T,H,N] Y, or null: not wanted; or dV
  const float* at_p_add;     // [B,H,N,N] added to the state at p, or null
  float *at_p, *end;         // [B,H,N,N] the state at p, and after the last chunk it comes to, or null
  void* saved;               // [B*H, ceil(slots / save_every), N, N] bf16: the states it comes to chunks with, or null
  int64_t save_every;        // chunks
  int32_t keep_u;            // whether u is written
};

struct Wkv7V2Outputs {
  void* y;
  float *cap, *final_state;  // as in Wkv7CudaOutputs
  void* checkpoints;         // [B*H, ceil(slots / (kWkv7V2CheckpointEvery / L)), N, N] bf16, or null
};

struct Wkv7V2Gradients {
  const void* dy;            // or null: zeros
  const void *states, *adjoints;  // [B*H, slots, N, N] bf16: S before, D after each chunk
  void *dr, *dw, *dk, *da, *db;
};

struct Wkv7V2Upstream {
  const void* dy;                // or null: zeros
  const float *dcap, *dfinal;    // or null: zeros
  const void* checkpoints;
  void *states, *adjoints;       // workspaces [B*H, slots, N, N] bf16
  void *dr, *dw, *dk, *dv, *da, *db;
  float* ds0;                    // or null
};

// Chunks that memory is for: as many as any p cuts T tokens into.
int64_t wkv7_v2_slots(const Wkv7CudaInputs*);
int64_t wkv7_v2_chunks_between_checkpoints(const Wkv7CudaInputs*);
const char* wkv7_v2_error(int error);  // in words
// Fills chunks.forward and, from dy (or null) too, all of both sides but forward.r, .m_v and .m_u.
int wkv7_v2_prepare_forward(const Wkv7CudaInputs*, const Wkv7V2Chunks*);
int wkv7_v2_prepare_backward(const Wkv7CudaInputs*, const Wkv7V2Chunks*, const void* dy);
int wkv7_v2_scan(const Wkv7CudaInputs*, const Wkv7V2Chunks*, const Wkv7V2Scan*);
// After both scans have left their u.
int wkv7_v2_gradients(const Wkv7CudaInputs*, const Wkv7V2Chunks*, const Wkv7V2Gradients*);

// The whole passes; the chunks are workspace, a pointer that is named nowhere above may be null.
int wkv7_v2_forward(const Wkv7CudaInputs*, const Wkv7V2Chunks*, const Wkv7V2Outputs*);
int wkv7_v2_backward(const Wkv7CudaInputs*, const Wkv7V2Chunks*, const Wkv7V2Upstream*);
}
