"""The chunked CUDA kernels one by one, emulated: against their formulas in float64, and with faults."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from .cases import CHUNKED_TOLERANCE, Case, random_case, relative_error
from .emulation.comparison import expected_of, upstream_of
from .emulation.library import KernelFault, compile_files, kernel_source
from .emulation.wkv7_v2 import CHECKPOINT_EVERY, CHUNK, FILES, Wkv7V2
from .errors import assert_within
from .reference import decay_of

pytestmark = pytest.mark.usefixtures("one_thread")


SOURCES = {name: kernel_source(name) for name in (*FILES, "wkv7_tiles.h")}
# A barrier, the end of a group of copies, or a wait for one.
ORDERING = re.compile(r"(?:sync_block|sync_warp|end_group_of_copies|wait_for_copies<\d>)\(\);")
# What a tired hand might write in the place of an expression that a file has once.
MISTAKES: dict[str, list[tuple[str, str]]] = {
    "wkv7_v2_prep.cu": [
        ("row == column ? 1 : 0", "row == 0 ? 1 : 0"),
        ("s + i < row", "s + i < row - 1"),
        ("transposed ? k < i : k > i", "k > i"),
        ("read_a(t_2, t, kPitch, 16, 16)", "read_a(t_2, t, kPitch, 0, 0)"),
        ("read_b(t_1, t, kPitch, 0, 0)", "read_b_transposed(t_1, t, kPitch, 0, 0)"),
        ("row >= column + lowest", "row > column + lowest"),
        ("a[i] *= upto[i]", "a[i] *= prims::exp(c.before[m + 1][i])"),
        ("prims::exp(-c.before[m + 1][i])", "prims::exp(-c.before[m][i])"),
        ("prims::exp(c.mid[0] + c.rest[0])", "prims::exp(c.mid[0])"),
        ("scale(w, upto_mid)", "void()"),
        ("scale(w_2, from_mid)", "scale(w_2, upto_mid)"),
        ("narrow + 16 * j * L + 16 * i", "narrow + 16 * i * L + 16 * j"),
        ("write_times(out.forward.b, b, after_mid)", "write_times(out.forward.b, b, before_mid)"),
    ],
    "wkv7_v2_scan.cu": [
        ("n % 2 * L", "0"),
        ("(n + 1) % 2", "0"),
        ("kBackward ? chunk - 1 : chunk + 1", "chunk + 1"),
        ("come_to(kBackward ? chunk + 1 : chunk)", "come_to(chunk)"),
        ("border != head.before_p", "border + 1 != head.before_p"),
        ("kBackward ? from : to", "-1"),
        ("head.index * segments + segment", "head.index * segments"),
        ("chunk % int(run.save_every) == 0", "(chunk + 1) % int(run.save_every) == 0"),
        ("n % 2 * N + 16 * j", "16 * j"),
        ("factor[e % 2]", "factor[0]"),
        ("S[j].add_product(u_a[t], x)", "S[j].add_product(v_a[t], x)"),
        ("kBackward ? s < t : s > t", "s > t"),
        ("head.tokens(chunk) - 16 * t", "16"),
        ("run.v ? head.tokens(chunk) : 0", "L"),
        ("both[1]", "both[0]"),
    ],
    "wkv7_v2_grad.cu": [
        ("t == s + strict", "t == s"),
        ("16 * block + row > 16 * j + column + strict", "16 * block + row > 16 * j + column"),
        ("add_product(x, kRB, b_)", "(from_state(x), add_product(x, kRB, b_))"),
        ("add_product(x, kAK, k_)", "add_product(x, kAK, b_)"),
        ("pair_of(kRK, t) * k[i]", "0 * k[i]"),
        ("share.read(in.k, t - 1)", "share.read(in.k, t)"),
        ("t + 1 < L", "t + 2 < L"),
        ("later[m][i] -= own[i] * x[i]", "later[m][i] += own[i] * x[i]"),
        ("gradient[m][i] = down(m, i) * x[i]", "gradient[m][i] = x[i]"),
        ("own[i] * rest[i] * x[i]", "own[i] * x[i]"),
        ("pair_of(with_a, t + 1) * a[i]", "pair_of(with_a, t) * a[i]"),
        ("group < share.group", "group <= share.group"),
        ("last > share.group", "last >= share.group"),
        ("later[m][i] = after[i] += later[m][i]", "after[i] += later[m][i]"),
        ("before[i] += earlier[m][i]", "before[i] += 0"),
        ("prims::exp(c.mid[i] + c.rest[i]) * crosses[i]", "crosses[i]"),
        ("of(out.adjoints) + slot * N * N + first_column", "of(out.states) + slot * N * N + first_column"),
        ("chunks.backward.u", "chunks.forward.u"),
    ],
    "wkv7_v2.cu": [
        ("in->s0", "nullptr"),
        ("again.keep_u = 1", "again.keep_u = 0"),
        ("out->dfinal", "nullptr"),
        ("reverse.v = out->dy", "reverse.v = in->v"),
    ],
    "wkv7_tiles.h": [
        ("(chunk - before_p) * L", "(chunk - before_p) * L + 1"),
        ("chunk < before_p ? p : T", "T"),
        ("t < 0 || t >= tokens", "t < 0"),
        ("group >= share.group", "group > share.group"),
        ("(m + lane() % 16) * pitch + k", "(m + lane() % 8) * pitch + k"),
        ("(k + lane() % 16) * pitch + n", "(k + lane() % 8) * pitch + n"),
        ("m + lane() / 8 % 2 * 8", "m + lane() / 16 * 8"),
        ("n + lane() % 8 + lane() / 16 * 8", "n + lane() % 16"),
        ("j < columns", "j < 16"),
        ("multiply_add(x[1], a, b[2], b[3])", "multiply_add(x[1], a, b[3], b[2])"),
        ("decay.slope * prims::exp(decay.log + 10)", "decay.slope"),
    ],
}
NUMBERED = list(MISTAKES)
STRIDE = 1000
"""What lies between the numbers of two files' faults: orderings first, then mistakes."""


def orderings(name: str) -> list[re.Match[str]]:
    return list(ORDERING.finditer(SOURCES[name]))


def number_of(name: str, fault: int) -> int:
    return NUMBERED.index(name) * STRIDE + fault


def with_faults(name: str) -> str:
    """A file with all its faults, switched on by number."""
    count = iter(range(STRIDE))
    text = ORDERING.sub(lambda m: f"if (planted != {number_of(name, next(count))}) {m[0]}", SOURCES[name])
    for right, wrong in MISTAKES[name]:
        assert SOURCES[name].count(right) == text.count(right) == 1, (
            f"{right} is not there once: choose another"
        )
        text = text.replace(right, f"(planted == {number_of(name, next(count))} ? ({wrong}) : ({right}))")
    switch = 'int planted = -1; extern "C" void plant(int number) { planted = number; }\n'
    return (switch if name == "wkv7_v2.cu" else "extern int planted;\n") + text


@dataclass(frozen=True)
class Chunk:
    """The matrices of one chunk of one head in float64, by the formulas of csrc/wkv7_v2.h."""

    a: Tensor  # A~
    r: Tensor  # R~
    k: Tensor  # K-
    b: Tensor  # B-
    k_end: Tensor  # K^
    b_end: Tensor  # B^
    keep: Tensor  # e^{c_L}

    @classmethod
    def of(cls, r: Tensor, w: Tensor, k: Tensor, a: Tensor, b: Tensor, decay: str) -> Chunk:
        log = decay_of(w, decay).log()
        c = log.cumsum(0)
        left = (c[-1] - c).exp()
        return cls(
            a * (c - log).exp(), r * c.exp(), k * (-c).exp(), b * (-c).exp(), k * left, b * left, c[-1].exp()
        )

    @property
    def m_ab(self) -> Tensor:
        return (self.a @ self.b.T).tril(-1)

    @property
    def m_ak(self) -> Tensor:
        return (self.a @ self.k.T).tril(-1)

    @property
    def m_rb(self) -> Tensor:
        return (self.r @ self.b.T).tril()

    @property
    def m_rk(self) -> Tensor:
        return (self.r @ self.k.T).tril()

    @property
    def inverse(self) -> Tensor:
        return torch.linalg.inv(torch.eye(len(self.a)) - self.m_ab)


def of_chunk(case: Case) -> tuple[Chunk, Tensor]:
    """The matrices, and v, of a case that is one chunk of one head."""
    r, w, k, v, a, b = (x.double()[0, :, 0] for x in case.tensors[:6])
    return Chunk.of(r, w, k, a, b, case.decay), v


def one_chunk(decay: str, N: int, T: int) -> Case:
    x = (-6.0, 3.0) if decay == "sigmoid" else (-3.0, 1.0)
    case = random_case(1, T, 1, N, decay=decay, x=x)
    return Case(case.tensors, None, decay)


def noise(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


@pytest.fixture(scope="module")
def wkv7() -> Wkv7V2:
    """The kernels with all faults in them and none switched on."""
    return Wkv7V2(compile_files({name: with_faults(name) for name in MISTAKES}))


PREPARED = {
    "k": 3e-3,
    "b": 3e-3,
    "r": 3e-3,
    "a": 3e-3,
    "keep": 1e-5,
    "m_rk": 6e-3,
    "m_rb": 6e-3,
    "m_ak": 6e-3,
}
PREPARED |= {"w": 6e-3, "u": 1e-2, "w_2": 6e-3, "z": 1e-2}


@pytest.mark.parametrize("shortened", [False, True])
@pytest.mark.parametrize("N", [64, 128])
@pytest.mark.parametrize("decay", CHUNK)
def test_what_is_prepared(wkv7: Wkv7V2, decay: str, N: int, shortened: bool) -> None:
    """For both directions; what no token has is zero."""
    L = CHUNK[decay]
    T = L - 5 if shortened else L
    case = wkv7.rounded(one_chunk(decay, N, T))
    x, v = of_chunk(case)
    dy = noise(1, T, 1, N, seed=3)
    values = dy.double()[0, :, 0]
    expected = {"k": x.k_end, "b": x.b_end, "r": x.r, "a": x.a, "keep": x.keep}
    expected |= {"w": x.inverse @ x.a, "u": x.inverse @ x.m_ak @ v}
    forward = expected | {"m_rk": x.m_rk, "m_rb": x.m_rb}
    backward = expected | {"m_rk": x.m_rk.T, "m_ak": x.m_ak.T}
    backward |= {"w_2": x.inverse.T @ x.b_end, "z": x.inverse.T @ x.m_rb.T @ values}
    for found, wanted in ((wkv7.prepare(case), forward), (wkv7.prepare(case, dy), backward)):
        errors = {}
        for name, got in found.items():
            want = torch.zeros(got.shape[2:], dtype=torch.float64)
            want[tuple(map(slice, wanted[name].shape))] = wanted[name]
            errors[name] = relative_error(got[0, 0], want)
            assert not got[0, 0].double()[want == 0].any() or name in ("keep", "w", "u", "w_2", "z")
        assert_within(errors, PREPARED)


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize(("N", "decay"), [(64, "sigmoid"), (64, "exp"), (128, "sigmoid"), (128, "exp")])
def test_the_scan(wkv7: Wkv7V2, N: int, decay: str, backward: bool) -> None:
    """Any numbers in place of what is prepared: states, u and y of three chunks, the last of them short."""
    L, heads = CHUNK[decay], 2
    T = 3 * L - 3
    case = wkv7.rounded(random_case(1, T, heads, N, decay=decay, x=(-6, 1)))
    case = Case(case.tensors, None, decay)
    work = {
        name: noise(heads, 3, L, N, seed=i) * 0.1
        for i, name in enumerate(("w_2", "z", "r", "a", "k") if backward else ("w", "u", "k", "b", "r"))
    }
    triangle = torch.ones(L, L, dtype=torch.bool)
    triangle = triangle.triu() if backward else triangle.tril()
    for i, name in enumerate(("m_rk", "m_ak") if backward else ("m_rk", "m_rb")):
        work[name] = noise(heads, 3, L, L, seed=10 + i) * triangle
    work["keep"] = torch.rand(heads, 3, N, generator=torch.Generator().manual_seed(5))
    start = noise(heads, N, N, seed=20).float()
    found = wkv7.scan(case, work, backward=backward, start=start)

    w, u_0, k, b, r, m_v, m_u, keep = (x.double() for x in work.values())
    v = torch.nn.functional.pad(case.tensors[3][0].double(), (0, 0, 0, 0, 0, 3)).unflatten(0, (3, L))
    for head in range(heads):
        S = start[head].double()
        for chunk in (2, 1, 0) if backward else (0, 1, 2):
            at, V = (head, chunk), v[chunk, :, head]
            U = u_0[at] + w[at] @ S.T
            Y = r[at] @ S.T + m_v[at] @ V + m_u[at] @ U
            tokens = slice(chunk * L, min(T, chunk * L + L))
            assert relative_error(found["saved"][at], S) < 3e-3
            assert relative_error(found["u"][at], U) < 5e-3
            assert relative_error(found["y"][0, tokens, head], Y[: tokens.stop - tokens.start]) < 5e-3
            S = S * keep[at] + V.T @ k[at] + U.T @ b[at]
        assert relative_error(found["end"][head], S) < 5e-3


@pytest.mark.parametrize("T", [1, 13, 0])
@pytest.mark.parametrize("N", [64, 128])
@pytest.mark.parametrize("decay", CHUNK)
def test_the_gradients_of_a_chunk(wkv7: Wkv7V2, decay: str, N: int, T: int) -> None:
    """Of what the state, v, u, z, dy and D take part in, all of them any numbers: as autograd has them.

    T is 0 for a whole chunk.
    """
    L = CHUNK[decay]
    T = T or L
    case = wkv7.rounded(one_chunk(decay, N, T))
    dy, u, z = (noise(1, T, 1, N, seed=i) for i in range(3))
    states, adjoints = (noise(1, 1, N, N, seed=i) for i in (3, 4))
    full = [
        torch.nn.functional.pad(x[:, :, 0, None], (0, 0, 0, 0, 0, L - T)).view(1, 1, L, N) for x in (u, z)
    ]
    found = wkv7.gradients(case, dy, full[0].contiguous(), full[1].contiguous(), states, adjoints)

    leaves = {
        name: x.double()[0, :, 0].requires_grad_() for name, x in zip("rwkvab", case.tensors, strict=False)
    }
    x = Chunk.of(*(leaves[name] for name in "rwkab"), decay)
    V, S, D = leaves["v"].detach(), states[0, 0].double(), adjoints[0, 0].double()
    dY, U, Z = (y.double()[0, :, 0] for y in (dy, u, z))
    objective = (
        (dY * (x.r @ S.T + x.m_rk @ V + x.m_rb @ U)).sum()
        + (Z * (x.a @ S.T + x.m_ak @ V + x.m_ab @ U)).sum()
        + (D * (S * x.keep + V.T @ x.k_end + U.T @ x.b_end)).sum()
    )
    objective.backward()
    errors = {name: relative_error(got[0, :, 0], leaves[name].grad) for name, got in found.items()}
    assert_within(errors, dict.fromkeys("rwkab", 5e-3))


Telling = tuple[Case, dict[str, Tensor], dict[str, Tensor]]


@pytest.fixture(scope="module")
def telling(wkv7: Wkv7V2) -> list[Telling]:
    """Cases in which every fault shows, their upstream gradients, and the results that they should have.

    One has more chunks than lie between two checkpoints, short ones, and captures within and at the start;
    one decays beyond the clamp; one has keys that are alike.
    """
    found = []
    alike = random_case(1, CHUNK["sigmoid"], 1, 64, p=torch.tensor([0]))
    r, w, k, v, a, _, s0 = alike.tensors
    key = torch.nn.functional.normalize(a + 2 * a[:, :1], dim=-1)
    for case in (
        random_case(2, CHECKPOINT_EVERY + 7, 1, 64, p=torch.tensor([40, 0])),
        random_case(1, 19, 1, 64, p=torch.tensor([19]), decay="exp", x=(2.0, 4.0)),
        Case((r, w, k, v, key, -0.9 * key, s0), alike.p),
    ):
        case = wkv7.rounded(case)
        given = upstream_of(wkv7, case)
        found.append((case, given, expected_of(case, given)))
    return found


def noticed(wkv7: Wkv7V2, number: int, telling: list[Telling]) -> bool:
    """Whether with a fault the results of any case are wrong. Raises KernelFault."""
    wkv7.library.functions.plant(number)
    try:
        for case, given, expected in telling:
            found = wkv7.run(case, given)
            errors = {name: relative_error(x, expected[name]) for name, x in found.items()}
            if any(not error <= 2 * CHUNKED_TOLERANCE[name] for name, error in errors.items()):
                return True
        return False
    finally:
        wkv7.library.functions.plant(-1)


def test_nothing_planted(wkv7: Wkv7V2, telling: list[Telling]) -> None:
    """Without a fault the kernels that hold them are right."""
    assert not noticed(wkv7, -1, telling)


@pytest.mark.parametrize(
    ("name", "number", "line"),
    [
        (name, number, SOURCES[name].count("\n", 0, match.start()) + 1)
        for name in NUMBERED
        for number, match in enumerate(orderings(name))
    ],
)
def test_every_barrier_and_wait_is_needed(
    wkv7: Wkv7V2, telling: list[Telling], name: str, number: int, line: int
) -> None:
    """Without it there is a race, or a copy is not waited for, and the emulation says so in any case."""
    with pytest.raises(
        KernelFault, match=r"no barrier in between|nobody has written|a copy is on its way|ends before"
    ):
        noticed(wkv7, number_of(name, number), telling[:1])


@pytest.mark.parametrize(
    ("name", "number", "right"),
    [
        (name, number, right)
        for name in NUMBERED
        for number, (right, _) in enumerate(MISTAKES[name], len(orderings(name)))
    ],
)
def test_mistakes_are_noticed(
    wkv7: Wkv7V2, telling: list[Telling], name: str, number: int, right: str
) -> None:
    """By the emulation, or because the numbers are wrong."""
    try:
        assert noticed(wkv7, number_of(name, number), telling)
    except KernelFault:
        return
