"""Running programs that a model has written, against their tests, in a sandbox or without one.

    Program       code, what stands between it and its tests, the tests
    run_programs  runs them, a process each, and says what became of each: Ran
    self_test     whether a level holds on this machine; ask it before the first program
    extract_code  the program in a model's answer

docs/code_execution.md says what the sandbox stops and what it does not. No torch; Linux alone.
"""

from fsearch.tasks.code_exec.extract import extract_code
from fsearch.tasks.code_exec.program import Level, Program, Ran, Verdict
from fsearch.tasks.code_exec.run import run_programs
from fsearch.tasks.code_exec.sandbox import SandboxFailed
from fsearch.tasks.code_exec.self_test import self_test

__all__ = ["Level", "Program", "Ran", "SandboxFailed", "Verdict", "extract_code", "run_programs", "self_test"]
