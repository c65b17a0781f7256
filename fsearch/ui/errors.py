"""What a person did that cannot be done, as a sentence and an exit code.

UserError            the sentence goes to stderr, the code to the shell; never a traceback
"""

from __future__ import annotations

OK = 0
FAILED = 1  # it cannot be done here, e.g. torch does not load, or a measurement is wrong
USAGE = 2  # the plan or the arguments are wrong
STATE = 3  # the state cannot be used
BUSY = 75  # a lock is held, or a network was waited for as long as the plan allows
STOPPED = 130  # stopped by a signal, after a checkpoint


class UserError(Exception):
    """One sentence (or one line a problem) for the person, and what the shell is told."""

    def __init__(self, sentence: str, code: int = USAGE):
        self.code = code
        super().__init__(sentence)
