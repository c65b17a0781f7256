// The passes of the chunked WKV7 operator: which kernels run, in which order, on what. See wkv7_v2.h.

#include "wkv7_v2.h"

int wkv7_v2_forward(const Wkv7CudaInputs* in, const Wkv7V2Chunks* chunks, const Wkv7V2Outputs* out) {
  if (const int error = wkv7_v2_prepare_forward(in, chunks)) return error;
  Wkv7V2Scan run = {};
  run.start = in->s0;
  run.segment = wkv7_v2_slots(in);
  run.v = in->v;
  run.y = out->y;
  run.at_p = out->cap;
  run.end = out->final_state;
  run.saved = out->checkpoints;
  run.save_every = wkv7_v2_chunks_between_checkpoints(in);
  return wkv7_v2_scan(in, chunks, &run);
}

// The forward scan again, from all saved states at once and for every chunk's state and u; then the scan in reverse.
int wkv7_v2_backward(const Wkv7CudaInputs* in, const Wkv7V2Chunks* chunks, const Wkv7V2Upstream* out) {
  if (const int error = wkv7_v2_prepare_backward(in, chunks, out->dy)) return error;
  Wkv7V2Scan again = {};
  again.restart = out->checkpoints;
  again.segment = wkv7_v2_chunks_between_checkpoints(in);
  again.v = in->v;
  again.saved = out->states;
  again.save_every = 1;
  again.keep_u = 1;
  if (const int error = wkv7_v2_scan(in, chunks, &again)) return error;
  Wkv7V2Scan reverse = {};
  reverse.backward = 1;
  reverse.start = out->dfinal;
  reverse.segment = wkv7_v2_slots(in);
  reverse.v = out->dy;
  reverse.y = out->dv;
  reverse.at_p_add = out->dcap;
  reverse.end = out->ds0;
  reverse.saved = out->adjoints;
  reverse.save_every = 1;
  reverse.keep_u = 1;
  if (const int error = wkv7_v2_scan(in, chunks, &reverse)) return error;
  const Wkv7V2Gradients gradients = {out->dy, out->states, out->adjoints, out->dr, out->dw, out->dk, out->da, out->db};
  return wkv7_v2_gradients(in, chunks, &gradients);
}
