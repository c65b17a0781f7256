"""How long the device stood idle between two attempts: from the end of one's work to the other's first step.

Work is training and evaluating; loading, writing down, deciding and starting are the gap. Processes say when
a phase begins, by the clock that all processes of a machine share: it does not matter when that is read.
"""

from __future__ import annotations

import time

from fsearch.daemon.child import Running


class Gaps:
    """The gaps of one place. What is before its first training is none: nothing was working yet."""

    def __init__(self) -> None:
        self._worked_until_s: float | None = None

    def ended(self, child: Running) -> None:
        """A worker has ended: note on it how long the device was idle before it, and until when it worked.

        One that never came to a step worked for no time, and the gap goes on.
        """
        began_s = child.began.get("train")
        if began_s is None:
            return
        if self._worked_until_s is not None:
            child.idle_s = max(0.0, began_s - self._worked_until_s)
        self._worked_until_s = child.began.get("finish", time.monotonic())
