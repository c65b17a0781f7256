"""The other pages of a live status, as lines: what failed and why, and the keys."""

from __future__ import annotations

from datetime import datetime

from rich.text import Text

from fsearch.ui.layout import columns, paragraph, worded
from fsearch.ui.rows import Row
from fsearch.ui.view import PlanView
from fsearch.ui.words import age

KEYS = (
    ("j, down", "the next task"),
    ("k, up", "the task before"),
    ("Esc", "back; follow the task that is worked on"),
    ("f", "what failed, and why"),
    ("?", "this page"),
    ("q", "leave; the search goes on"),
)

WORDS = (
    ("d_acc", "score of the variant minus that of its matched baseline, in percentage points"),
    ("95 % interval", "of the mean d_acc over the confirmation seeds, each paired with its baseline"),
    ("keep, prune", "what a screening stage decided, by the plan's threshold"),
    ("confirming 3/5", "on fresh seeds; a verdict comes when all are there"),
    ("same as, noop", "not trained: it equals another variant, or it changes nothing here"),
    ("about", "attempts that may still be spared: a pruned variant is not confirmed"),
)


def help_page(width: int) -> list[Text]:
    """The keys, and what the words of the board mean."""
    keys = columns([[Text(key, "bold"), what] for key, what in KEYS], "<<")
    words = []
    for word, meaning in WORDS:
        first, *rest = paragraph(f"{word}: {meaning}", width, indent=2)
        first.stylize("bold", 2, 2 + len(word))
        words += [
            first,
            *(Text(f"  {line.plain}") for line in paragraph(" ".join(map(str, rest)), width - 2)),
        ]
    return [Text("Keys", "bold"), *keys, Text(), Text("Words", "bold"), *words]


def failures_page(view: PlanView, now: datetime, width: int, room: int, skipped: int) -> list[Text]:
    """What closed without a result, but for the first `skipped`; what does not fit is counted."""
    failures = view.failures
    if not failures:
        return [Text("Nothing has failed.", "green")]
    number = len(failures)
    head = Text(f"{number} attempt{'s' * (number > 1)} failed; the others go on without them", "bold")
    lines, shown = [head], skipped
    for row in failures[skipped:]:
        more = _failure(row, now, width)
        if len(lines) + len(more) + 1 > room and shown > skipped:
            break
        lines, shown = lines + more, shown + 1
    hidden = [f"{skipped} before"] * (skipped > 0) + [f"{number - shown} after"] * (shown < number)
    return [*lines[: room - 1], *([Text(f"  … {', '.join(hidden)}", "dim")] if hidden else [])]


def _failure(row: Row, now: datetime, width: int) -> list[Text]:
    spec = row.attempt.spec
    parts = [row.search or "kernel", row.stage, row.variant]
    parts.append(f"seed {spec.seed}" if spec.role in ("screen", "confirm") else "")
    what = Text("  ".join(part for part in parts if part), "cyan")
    tries = f", {len(row.tries)} tries" if len(row.tries) > 1 else ""
    line = Text.assemble("  ", what, "  ", worded("failed"), f" ({row.attempt.outcome}{tries})")
    line.append(f"  {age(row.attempt.ended_at, now)} ago", "dim")
    return [line, *paragraph(row.attempt.reason, width, indent=4)]
