"""The inspection of a checkpoint as a process, and attempts that start from one."""

from __future__ import annotations

import hashlib
import os
import signal
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from fsearch.rwkv7 import RWKV7, load, save
from fsearch.tasks import prepared
from fsearch.train.batches import DataOrder, Examples
from fsearch.train.model_file import ModelChanged, ModelFile, load_inspected
from tests.train.conftest import MakeJob
from tests.train.processes import ZygoteProcess, numbers, run_cold, start_cold

VOCABULARY = 24
"""More than the 10 ids of the prepared data."""


@pytest.fixture(scope="session")
def model() -> RWKV7:
    """Three layers in which every weight counts."""
    made = load({"n_layer": 3, "n_embd": 32, "head_size": 8, "vocab_size": VOCABULARY, "seed": 5})
    source = torch.Generator().manual_seed(6)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=source)
    return made


@pytest.fixture
def path(model: RWKV7, tmp_path: Path) -> Path:
    save(model, tmp_path / "tiny.pth", torch.float32)
    return tmp_path / "tiny.pth"


def job(checkpoint: object, *, download: bool = False) -> dict[str, Any]:
    return {"kind": "inspect", "checkpoint": str(checkpoint), "download": download}


def refusal(checkpoint: object, folder: Path) -> tuple[str, str]:
    """The exception and the message with which an inspection refuses."""
    worker, started = start_cold("inspect", job(checkpoint), folder)
    error = worker.wait_for(lambda message: message["type"] == "error")
    assert started.wait(60) == 1
    return error["exception"].rsplit(".", 1)[-1], error["message"]


def test_an_inspection_says_what_the_file_is(path: Path, tmp_path: Path) -> None:
    """Its place, its contents' hash, and the architecture."""
    result = run_cold("inspect", job(path), tmp_path)
    assert result["outcome"] == "completed"
    now = path.stat()
    assert result["model"] == {
        "path": str(path),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "size_bytes": now.st_size,
        "modified_ns": now.st_mtime_ns,
        "n_layer": 3,
        "n_embd": 32,
        "head_size": 8,
        "vocab_size": VOCABULARY,
    }


def test_a_file_that_cannot_be_used_is_refused_in_words(path: Path, model: RWKV7, tmp_path: Path) -> None:
    """Gone, or with a value that is no number: with the file, and the key where there is one."""
    kind, message = refusal(tmp_path / "none.pth", tmp_path)
    assert kind == "CheckpointError" and f"{tmp_path}/none.pth" in message and "No such file" in message
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    weights["blocks.1.att.w0"][0, 0, 3] = float("nan")
    torch.save(weights, path)
    kind, message = refusal(path, tmp_path)
    assert kind == "CheckpointError" and "blocks.1.att.w0" in message


def test_without_a_download_an_address_is_unreachable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not in the cache is asked of nobody."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    kind, message = refusal("hf://owner/repo/model.pth", tmp_path)
    assert kind == "HubUnreachable" and "hf://owner/repo/model.pth is not in the cache" in message


def test_a_file_that_changes_is_noticed(path: Path) -> None:
    """Before, while and after it is read; one that is gone as well."""
    file = ModelFile.at(path)
    with file.unchanged():
        pass
    with pytest.raises(ModelChanged, match="is inspected again"), file.unchanged():
        path.write_bytes(path.read_bytes() + b"0")
    with pytest.raises(ModelChanged, match=r"tiny\.pth"):
        load_inspected(asdict(file))
    path.unlink()
    with pytest.raises(ModelChanged, match="cannot be read now"):
        load_inspected(asdict(file))


def attempt(make_job: MakeJob, path: Path, **fields: Any) -> dict[str, Any]:
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    known = {
        "model": {"checkpoint": sha256},
        "model_file": asdict(ModelFile.at(path)),
        "streams": {"order": 2},
    }
    return make_job(**{**known, **fields})


BASELINE = {"gate": "none", "stream": 0}


def test_an_attempt_starts_from_the_file(
    make_job: MakeJob, shared_zygote: ZygoteProcess, data: prepared.Prepared, path: Path, model: RWKV7
) -> None:
    """The loss of its first step is that of the file's weights, computed here; nothing is imported late."""
    result = shared_zygote.fork(attempt(make_job, path, form=BASELINE)).finish()
    examples = Examples([data.split("train")], only_scored=False)
    batch = examples.batch(DataOrder(2, len(examples)).step(0, 16))
    with torch.no_grad():
        logits = model(torch.from_numpy(batch.tokens), torch.from_numpy(batch.prompt_len))
    at_targets = logits.flatten(0, 1)[torch.from_numpy(batch.positions)]
    loss = F.cross_entropy(at_targets, torch.from_numpy(batch.targets)).item()
    assert result["first_losses"][0] == pytest.approx(loss, rel=1e-5)
    scratch = shared_zygote.fork(make_job(form=BASELINE)).finish()
    assert abs(scratch["first_losses"][0] - result["first_losses"][0]) > 1e-3
    assert result["late_torch_imports"] == []


def test_a_moved_file_goes_on_from_the_training_checkpoint(
    make_job: MakeJob, shared_zygote: ZygoteProcess, path: Path, tmp_path: Path
) -> None:
    """Stopped, the file moved, started again: on from where it was, with an undisturbed run's numbers."""
    fields: dict[str, Any] = {"steps": 60, "checkpoint": {"path": str(tmp_path / "state"), "every_s": 0.0}}
    expected = shared_zygote.fork(attempt(make_job, path, steps=60)).finish()
    first = shared_zygote.fork(attempt(make_job, path, **fields))
    first.wait_for(lambda message: message["type"] == "progress" and message["step"] >= 3)
    os.kill(first.pid, signal.SIGTERM)
    assert first.finish()["outcome"] == "interrupted"
    moved = path.rename(tmp_path / "moved.pth")
    resumed = shared_zygote.fork(attempt(make_job, moved, **fields)).finish()
    assert resumed["resumed_from_step"] > 0
    assert numbers(resumed) == numbers(expected)


def test_an_attempt_refuses_another_file(make_job: MakeJob, shared_zygote: ZygoteProcess, path: Path) -> None:
    """A file that is not the inspected one any more is not trained from."""
    asked = attempt(make_job, path)
    path.write_bytes(path.read_bytes() + b"0")
    error = shared_zygote.fork(asked).wait_for(lambda message: message["type"] == "error")
    assert error["exception"].endswith(".ModelChanged")
