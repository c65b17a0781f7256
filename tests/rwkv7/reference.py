"""RWKV-7 with Future-Seed in float64 numpy: one token, one head, one entry of the state at a time.

Written from the published equations: Peng et al. 2025, "RWKV-7 Goose", and RWKV-LM's
RWKV-v7/rwkv_v7_demo_rnn.py. Prompt and answer are two passes: the prompt layer by layer, each seeded
layer starting from the final state of the layer below; then the answer, every layer going on from its own
final state and its own last token. No padding, no batch, no capture; nothing shared with the model under
test but the names of parameters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass
class LayerState:
    """What a layer carries from token to token."""

    heads: Array  # [H, N, N], rows are values, columns are keys
    att_last: Array  # [C], the last input of the time mix
    ffn_last: Array  # [C], the last input of the channel mix


def logits(
    parameters: Mapping[str, Array],
    form: Mapping[str, Any],
    gates: Mapping[str, Array],
    tokens: Sequence[int],
    prompt_len: int,
) -> Array:
    """Logits [T, V] of one unpadded sample under a variant's canonical form and what it has learnt."""
    n_layer = 1 + max(int(name.split(".")[1]) for name in parameters if name.startswith("blocks."))
    n_head, head_size = parameters["blocks.0.att.r_k"].shape
    width = n_head * head_size
    layers = [_named(parameters, f"blocks.{i}.") for i in range(n_layer)]
    states: list[LayerState] = []

    def embed(part: Sequence[int]) -> list[Array]:
        return [layer_norm(parameters["emb.weight"][token], layers[0], "ln0") for token in part]

    stream, values = embed(tokens[:prompt_len]), [None] * prompt_len
    for i, layer in enumerate(layers):
        heads = np.zeros((n_head, head_size, head_size))
        if form["gate"] != "none" and str(i) in form["layers"]:
            row = sorted(map(int, form["layers"])).index(i)
            weights = gate(gates, row, stream[-1], n_head) * form["layers"][str(i)]
            heads = seed(form, weights, states[i - 1].heads)
        states.append(LayerState(heads, np.zeros(width), np.zeros(width)))
        stream, values = run_layer(layer, states[i], stream, values)
    result = stream

    stream, values = embed(tokens[prompt_len:]), [None] * (len(tokens) - prompt_len)
    for layer, state in zip(layers, states, strict=True):
        stream, values = run_layer(layer, state, stream, values)
    result += stream

    return np.stack([parameters["head.weight"] @ layer_norm(x, parameters, "ln_out") for x in result])


def gate(gates: Mapping[str, Array], row: int, x: Array, n_head: int) -> Array:
    """The gates [H] of the seeded layer number `row`, whose input at the last prompt token is x [C]."""
    logit = gates["alpha"][row]
    if "weight" in gates:
        logit = logit + gates["weight"][row] @ x / math.sqrt(len(x)) + gates["bias"][row]
    weights = np.broadcast_to(sigmoid(logit), n_head)
    return weights * sigmoid(gates["alpha_head"][row]) if "alpha_head" in gates else weights


def seed(form: Mapping[str, Any], weights: Array, state: Array) -> Array:
    """The start state made from the state of the layer below, each head weighed by its gate."""
    result = np.empty_like(state)
    for head, matrix in enumerate(state):
        z = matrix
        if form["norm"]:
            z = z / max(math.sqrt(float(np.mean(z * z))), 1e-6)
        z = z * weights[head]
        if form["clip"] is not None:
            z = np.minimum(np.maximum(z, -form["clip"]), form["clip"])
        result[head] = z
    return result


def run_layer(
    p: Mapping[str, Array], state: LayerState, stream: list[Array], values: list[Any]
) -> tuple[list[Array], list[Any]]:
    """One layer over consecutive tokens, changing `state`. `values` are layer 0's, or None in layer 0."""
    out, firsts = [], []
    for x, first in zip(stream, values, strict=True):
        z = layer_norm(x, p, "ln1")
        mixed, first = time_mix(p, state.heads, z, state.att_last, first)
        state.att_last = z
        x = x + mixed
        z = layer_norm(x, p, "ln2")
        x = x + channel_mix(p, z, state.ffn_last)
        state.ffn_last = z
        out.append(x)
        firsts.append(first)
    return out, firsts


def time_mix(
    p: Mapping[str, Array], heads: Array, x: Array, last: Array, first: Array | None
) -> tuple[Array, Array]:
    """Output [C] and layer 0's value [C]; updates `heads` in place."""
    r_in, w_in, k_in, v_in, a_in, g_in = (x + p[f"att.x_{n}"].ravel() * (last - x) for n in "rwkvag")
    r = p["att.receptance.weight"] @ r_in
    k = p["att.key.weight"] @ k_in
    v = p["att.value.weight"] @ v_in
    w = p["att.w0"].ravel() + np.tanh(w_in @ p["att.w1"]) @ p["att.w2"]
    w = np.exp(-np.exp(-np.log1p(np.exp(-w)) - 0.5))
    a = sigmoid(p["att.a0"].ravel() + a_in @ p["att.a1"] @ p["att.a2"])
    g = sigmoid(g_in @ p["att.g1"]) @ p["att.g2"]
    if first is None:
        first = v
    else:
        v = v + (first - v) * sigmoid(p["att.v0"].ravel() + v_in @ p["att.v1"] @ p["att.v2"])

    n_head, n = p["att.r_k"].shape
    kk = k * p["att.k_k"].ravel()
    k = k + k * (a - 1) * p["att.k_a"].ravel()
    out = np.empty_like(x)
    for h in range(n_head):
        c = slice(h * n, (h + 1) * n)
        unit = kk[c] / max(math.sqrt(float(kk[c] @ kk[c])), 1e-12)
        old = heads[h]
        new = np.empty_like(old)
        for i in range(n):  # value
            recalled = -sum(old[i, j] * unit[j] for j in range(n))
            for j in range(n):  # key
                new[i, j] = old[i, j] * w[c][j] + recalled * unit[j] * a[c][j] + v[c][i] * k[c][j]
        heads[h] = new
        y = new @ r[c]
        y = (y - y.mean()) / np.sqrt(y.var() + n * 1e-5) * p["att.ln_x.weight"][c] + p["att.ln_x.bias"][c]
        out[c] = y + float(np.sum(r[c] * k[c] * p["att.r_k"][h])) * v[c]
    return p["att.output.weight"] @ (out * g), first


def channel_mix(p: Mapping[str, Array], x: Array, last: Array) -> Array:
    k = p["ffn.key.weight"] @ (x + p["ffn.x_k"].ravel() * (last - x))
    return np.asarray(p["ffn.value.weight"] @ np.maximum(k, 0) ** 2)


def layer_norm(x: Array, p: Mapping[str, Array], name: str) -> Array:
    return np.asarray((x - x.mean()) / np.sqrt(x.var() + 1e-5) * p[f"{name}.weight"] + p[f"{name}.bias"])


def sigmoid(x: Array | float) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def _named(parameters: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {name[len(prefix) :]: value for name, value in parameters.items() if name.startswith(prefix)}
