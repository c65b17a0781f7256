"""Checkpoints: what is damaged is not taken up, what cannot be written harms nobody, and saving is cheap."""

from __future__ import annotations

import errno
import hashlib
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fsearch.system import disk
from fsearch.train import checkpoint
from tests.train.conftest import MakeJob
from tests.train.processes import ZygoteProcess, numbers

_FORMAT = b"fsearch training checkpoint 1\n"


def state(step: int) -> dict[str, Any]:
    """A state with every part, told apart by its step."""
    weights = torch.full((200, 100), float(step))
    parts: dict[str, Any] = {"network": {"model": {"w": weights}}, "optimizer": {"state": {0: [weights]}}}
    return {
        **parts,
        "step": step,
        "tokens": 0,
        "first_losses": [0.5],
        "early_sha256": None,
        "curve": [{"step": 1}],
    }


def cut(size: float) -> Callable[[bytes], bytes]:
    return lambda content: content[: int(size * len(content))]


def flipped(at: float) -> Callable[[bytes], bytes]:
    def flip(content: bytes) -> bytes:
        place = int(at * (len(content) - 1))
        return content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]

    return flip


def rewritten(content: dict[str, Any]) -> Callable[[bytes], bytes]:
    """Another content under a right checksum."""

    def rewrite(_: bytes) -> bytes:
        import io

        file = io.BytesIO()
        torch.save(content, file)
        return _FORMAT + hashlib.sha256(file.getvalue()).digest() + file.getvalue()

    return rewrite


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": cut(0.0),
    "cut in its head": lambda content: content[:40],
    "cut in the middle": cut(0.5),
    "without its last byte": lambda content: content[:-1],
    "with a byte more": lambda content: content + b"\0",
    **{f"a bit flipped at {at}": flipped(at) for at in (0.0, 0.0003, 0.3, 0.7, 1.0)},
    "of zeros": lambda content: bytes(len(content)),
    "of another format": lambda content: content.replace(b"checkpoint 1", b"checkpoint 2", 1),
    "of another attempt": rewritten({"owner": "other", "state": state(9)}),
    "without the optimizer": rewritten(
        {"owner": "me", "state": {key: value for key, value in state(9).items() if key != "optimizer"}}
    ),
    "without the curve": rewritten(
        {"owner": "me", "state": {key: value for key, value in state(9).items() if key != "curve"}}
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_one_is_not_taken_up(name: str, tmp_path: Path) -> None:
    """The one before is taken instead; with both damaged there is none, and the attempt begins anew."""
    path = tmp_path / "checkpoint"
    checkpoint.save(path, "me", state(1))
    checkpoint.save(path, "me", state(2))
    assert checkpoint.load(path, "me")["step"] == 2  # type: ignore[index]
    path.write_bytes(DAMAGES[name](path.read_bytes()))
    assert checkpoint.load(path, "me")["step"] == 1  # type: ignore[index]
    before = checkpoint.previous(path)
    before.write_bytes(DAMAGES[name](before.read_bytes()))
    assert checkpoint.load(path, "me") is None


def test_it_runs_nothing_that_it_holds(tmp_path: Path) -> None:
    """A pickle with code in it, under a right checksum, is refused and the code is not run."""
    done = tmp_path / "done"

    class Code:
        def __reduce__(self) -> tuple[Any, ...]:
            return (done.write_text, ("run",))

    path = tmp_path / "checkpoint"
    path.write_bytes(rewritten({"owner": "me", "state": Code()})(b""))
    assert checkpoint.load(path, "me") is None
    assert not done.exists()


@pytest.mark.parametrize("bytes_", [0, 1, 30, 62, 1000, 40_000, 80_000])
def test_a_write_that_fails_anywhere_leaves_what_was_there(bytes_: int, tmp_path: Path) -> None:
    """The disk takes so many bytes and no more: OSError, whatever torch makes of it, no half-written file."""
    path = tmp_path / "checkpoint"
    checkpoint.save(path, "me", state(1))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            checkpoint.save(path, "me", state(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint"]
    assert checkpoint.load(path, "me")["step"] == 1  # type: ignore[index]
    checkpoint.save(path, "me", state(3))
    assert checkpoint.load(path, "me")["step"] == 3  # type: ignore[index]


def test_room_is_asked_for_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With less free than the state and what is kept takes, nothing is written, and the sizes are said."""
    size = checkpoint.size_bytes(state(1))
    assert size == 2 * 4 * 200 * 100
    path = tmp_path / "checkpoint"
    monkeypatch.setattr(disk, "free_bytes", lambda place: disk.KEPT_BYTES + size - 1)
    with pytest.raises(
        OSError, match=r"No space left on device.*0.2 MiB are to be written.*64 are kept"
    ) as caught:
        checkpoint.save(path, "me", state(1))
    assert caught.value.errno == errno.ENOSPC and list(tmp_path.iterdir()) == []
    monkeypatch.setattr(disk, "free_bytes", lambda place: disk.KEPT_BYTES + size)
    checkpoint.save(path, "me", state(1))


def test_an_attempt_that_cannot_save_trains_on(
    make_job: MakeJob, shared_zygote: ZygoteProcess, tmp_path: Path
) -> None:
    """Its result is that of any other; that a checkpoint is missing is told, once."""
    expected = shared_zygote.fork(make_job()).finish()
    (tmp_path / "file").write_text("")
    wanted = {"path": str(tmp_path / "file" / "checkpoint"), "every_s": 0}
    worker = shared_zygote.fork(make_job(checkpoint=wanted))
    assert numbers(worker.finish()) == numbers(expected)
    (notice,) = (message for message in worker.messages if message["type"] == "notice")
    assert notice["text"].startswith("no checkpoint could be written after step 1: ")


@given(
    cost_s=st.floats(1e-3, 600.0),
    size=st.integers(0, 10**11),
    step_s=st.floats(1e-2, 30.0),
    least_s=st.sampled_from([1.0, 30.0]),
)
def test_saving_takes_at_most_a_hundredth(cost_s: float, size: int, step_s: float, least_s: float) -> None:
    """Of the time of a training, whatever a checkpoint costs: after each one but the first, whose cost may be
    more than its size says; and one is saved as often as that allows."""
    now_s = 1000.0
    pace = checkpoint.Pace(least_s, size, now_s)
    spent_s, saves, last_s = 0.0, 0, now_s
    for _ in range(3000):
        now_s += step_s
        if not pace.due(now_s):
            continue
        assert now_s - last_s >= least_s
        pace.saved(now_s, now_s + cost_s)
        now_s += cost_s
        spent_s, saves, last_s = spent_s + cost_s, saves + 1, now_s
        if saves > 1:
            assert spent_s <= checkpoint.SHARE * (now_s - 1000.0) * (1 + 1e-9)
    trained_s = now_s - 1000.0
    first_s = max(least_s, size / checkpoint.FIRST_BYTES_PER_S / checkpoint.SHARE)
    if trained_s > first_s + 2 * max(least_s, cost_s / checkpoint.SHARE) + 3 * step_s + cost_s:
        assert saves >= 2
