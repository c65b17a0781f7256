"""Programs against their tests, some at a time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from fsearch.tasks.code_exec.program import Level, Program, Ran, Verdict
from fsearch.tasks.code_exec.sandbox import Ended, Sandbox

WALL_LIMIT_S = 60.0
"""Of one program. Far above the limit of processor time, so that a busy machine changes no verdict."""

_MOST_WORKERS = 4


def run_programs(programs: Sequence[Program], level: Level, *, workers: int | None = None) -> list[Ran]:
    """Run each program in a process of its own, `workers` at a time; what became of them, in their order.

    `workers` is by default the number of cores, at most four; it changes no result. Raises SandboxFailed
    where the level is not to be had, which `self_test` finds out beforehand.
    """
    workers = workers or min(_MOST_WORKERS, len(os.sched_getaffinity(0)))
    with ThreadPoolExecutor(workers, thread_name_prefix="program") as pool:
        return list(pool.map(lambda program: run(program, level), programs))


def run(program: Program, level: Level, wall_limit_s: float = WALL_LIMIT_S) -> Ran:
    """One program. Raises SandboxFailed."""
    failures: list[tuple[Verdict, str]] = []
    passed, exec_ok = 0, False
    with Sandbox(level, wall_limit_s) as sandbox:

        def step(name: str, source: str) -> bool:
            word, reason = sandbox.step(source)
            if word != "ok":
                failures.append((_verdict(word, name, level), f"{name}: {reason}"))
            return word == "ok"

        try:
            exec_ok = step("code", program.code)
            if exec_ok and step("setup", program.setup):
                for number, test in enumerate(program.tests, start=1):
                    passed += step(f"test {number}", test)
        except Ended as ended:
            failures.append((ended.verdict, ended.reason))
        seconds = sandbox.seconds
    verdict, reason = failures[0] if failures else (Verdict.PASSED, "")
    return Ran(verdict, passed, len(program.tests), reason, seconds, exec_ok)


def _verdict(word: str, step: str, level: Level) -> Verdict:
    """The verdict on a step that failed. A test that cannot be compiled is no syntax error of the code."""
    if word == "syntax" and step == "code":
        return Verdict.SYNTAX_ERROR
    if word == "assertion" and step.startswith("test"):
        return Verdict.FAILED_ASSERTION
    if word == "refused" and level == "bwrap":
        return Verdict.BLOCKED
    return Verdict.ERROR
