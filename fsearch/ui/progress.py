"""What `fsearch run` says while it works: one line an attempt, and on a terminal a bar within it.

It listens to the daemon and can never stop it: when the terminal goes away it falls silent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column
from rich.text import Text

from fsearch.plan import BASELINE, SCORE, Plan, expand
from fsearch.search.board import Difference
from fsearch.search.outcomes import NETWORK
from fsearch.search.rows import AHEAD, Attempt, AttemptSpec
from fsearch.ui.layout import WIDE, paragraph, worded
from fsearch.ui.streams import mute
from fsearch.ui.words import duration, percent, points


class Lines:
    """A daemon's listener that prints lines; `clock` gives monotonic seconds."""

    def __init__(self, plans: Sequence[Plan], screen: Console, clock: Callable[[], float] = time.monotonic):
        searches = [search for plan in plans for search in expand(plan)]
        self._metrics = {search.label: search.metric for search in searches}
        self._screen = screen
        self._clock = clock
        self._headed = screen.is_terminal and screen.width < WIDE  # the search is a heading, not a column
        self._search_width = max(len(search.label) for search in searches)
        self._stage_width = max(len(stage.name) for search in searches for stage in search.stages)
        names = [BASELINE, *(variant.name for search in searches for variant in search.variants)]
        self._variant_width = max(map(len, names))
        self._heading = ""
        self._number = 0
        self._began: dict[str, float] = {}
        self._bar: Progress | None = None
        if screen.is_terminal:
            self._bar = Progress(
                TextColumn("  {task.description}", markup=False),
                BarColumn(bar_width=24),
                TextColumn(
                    "{task.fields[what]}",
                    markup=False,
                    table_column=Column(no_wrap=True, overflow="ellipsis"),
                ),
                console=screen,
                auto_refresh=False,  # no thread beside the daemon
                transient=True,
            )

    def started(self, state: Path, device: str) -> None:
        if self._bar:
            self._bar.start()

    def attempt_started(self, spec: AttemptSpec, try_number: int) -> None:
        self._began[spec.id] = self._clock()
        what = {"build": "being built", "inspect": "being inspected"}.get(spec.role, "")
        self._show_bar(spec, 0, max(spec.steps, 1), what, again=try_number > 1)

    def progress(
        self, spec: AttemptSpec, step: int, steps: int, loss: float | None, tokens_per_s: float | None
    ) -> None:
        what = f"step {step} of {steps}"
        if loss is not None:
            what += f"  loss {loss:.3f}"
        if tokens_per_s is not None and self._screen.width >= WIDE:
            what += f"  {tokens_per_s:,.0f} tokens/s"
        self._show_bar(spec, step, steps, what)

    def doing(self, spec: AttemptSpec, what: str) -> None:
        self._show_bar(spec, 0, 1, what)

    def attempt_ended(self, attempt: Attempt, difference: Difference | None) -> None:
        spec = attempt.spec
        if self._bar and spec.role != "prepare":
            for task in self._bar.task_ids:
                self._bar.remove_task(task)
        if self._headed and spec.search != self._heading and spec.role not in AHEAD:
            self._heading = spec.search
            self._say(Text(spec.search, "bold cyan"))
        began = self._began.pop(spec.id, None)
        seconds = None if began is None else self._clock() - began
        if attempt.outcome == NETWORK:
            return  # tried again and again: events say when it begins and ends
        if attempt.outcome == "completed" and spec.role in ("screen", "confirm"):
            self._say(self._line(attempt, difference, seconds))
        else:
            for line in self._note(attempt, difference, seconds):
                self._say(line)

    def event(self, level: str, text: str) -> None:
        if self._screen.is_terminal:
            for line in paragraph(f"{level}: {text}", self._screen.width, indent=0, style="yellow"):
                self._say(line)
        else:
            self._say(Text(f"{level}: {' '.join(text.split())}"))

    def waiting(self, why: str, left_s: float | None) -> None:
        self._draw_bar("waiting", 0, 1, why if left_s is None else f"next try in {left_s:.0f} s")

    def finished(self, exit_code: int) -> None:
        self.close()

    def close(self) -> None:
        """Take the bar away; also called when the daemon could not end in order."""
        if self._bar:
            self._guarded(self._bar.stop)

    def _line(self, attempt: Attempt, difference: Difference | None, seconds: float | None) -> Text:
        """An attempt that trained to its end, in columns."""
        self._number += 1
        spec = attempt.spec
        # Beside 80 columns there is no room for words that the percent signs say too.
        metric = self._metrics.get(spec.search, SCORE)
        acc, d_acc = ("", "") if self._headed else ("acc " if metric == SCORE else f"{metric} ", "d_acc ")
        decision = (difference.decision if difference else None) or ""
        cells: list[Text | str] = [
            f"[{self._number:3d}]",
            self._place(spec),
            f"seed {spec.seed}",
            f"{acc}{percent(attempt.read(metric).score):>7}",
            f"{d_acc}{points(difference.d_acc):>7} pp" if difference else " " * (len(d_acc) + 10),
            Text.assemble(worded(decision), " " * (5 - len(decision))),
            f"{'' if seconds is None else duration(seconds):>8}",
        ]
        return Text("  ").join(Text.assemble(cell) for cell in cells)

    def _note(self, attempt: Attempt, difference: Difference | None, seconds: float | None) -> list[Text]:
        """Anything else that ended: what, how, and why."""
        word = (difference.decision if difference else None) or _ending(attempt)
        line = Text.assemble(" " * 7, self._place(attempt.spec), "  ")
        if attempt.spec.role in ("screen", "confirm") and "noop" not in attempt.spec.form:
            line.append(f"seed {attempt.spec.seed}  ")
        line.append_text(worded(word))
        if seconds is not None:
            line.append(f"  {duration(seconds)}")
        if attempt.outcome == "completed" or not attempt.reason:
            return [line]
        if self._screen.is_terminal:
            return [line, *paragraph(attempt.reason, self._screen.width, indent=9, style="dim")]
        return [Text.assemble(line, f"  {attempt.reason}")]

    def _place(self, spec: AttemptSpec) -> str:
        if spec.role == "build":
            return "kernel"
        if spec.role == "inspect":
            return f"model {spec.model['checkpoint']}"
        if spec.role == "prepare":
            return f"data of {spec.search}"
        trained = spec.role in ("screen", "confirm")
        name = spec.variant if trained else f"batch {spec.batch}"
        search = "" if self._headed else f"{spec.search:<{self._search_width}}  "
        stage = spec.stage if trained else ""
        return f"{search}{stage:<{self._stage_width}}  {name:<{self._variant_width}}"

    def _show_bar(self, spec: AttemptSpec, step: int, steps: int, what: str, *, again: bool = False) -> None:
        if spec.role == "prepare":  # which runs beside the training
            return
        name = {"build": "kernel", "inspect": "model", "probe": f"batch {spec.batch}"}.get(
            spec.role, f"{spec.stage} {spec.variant} seed {spec.seed}"
        )
        self._draw_bar(f"{name}{', again' if again else ''}", step, steps, what)

    def _draw_bar(self, name: str, step: int, steps: int, what: str) -> None:
        if not self._bar:
            return
        if not self._bar.tasks:
            self._bar.add_task(name, total=steps, what=what)
        task = self._bar.task_ids[0]
        self._bar.update(task, description=name, completed=step, total=steps, what=what)
        self._guarded(self._bar.refresh)

    def _say(self, line: Text) -> None:
        self._guarded(lambda: self._screen.print(line, soft_wrap=True))
        self._guarded(self._screen.file.flush)

    def _guarded(self, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError:
            mute()  # a closed terminal is no reason to stop a search


def _ending(attempt: Attempt) -> str:
    spec = attempt.spec
    if attempt.outcome in ("noop", "interrupted"):
        return attempt.outcome
    if spec.role == "probe" and attempt.outcome == "oom":
        return f"does not fit{_how(spec)}"
    if attempt.outcome != "completed":
        return f"failed ({attempt.outcome})"
    if spec.role == "build":
        return f"built ({attempt.backend})"
    if spec.role in ("inspect", "prepare"):
        return "ready"
    return f"fits{_how(spec)}"


def _how(spec: AttemptSpec) -> str:
    parts = "" if spec.micro_batch == spec.batch else f" in micro-batches of {spec.micro_batch}"
    return parts + (" with layers recomputed" if spec.recompute == "layers" else "")
