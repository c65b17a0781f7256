"""A replay as lines: a table for each task and batch, then what another threshold would have meant."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from rich.text import Text

from fsearch.search.course import Course, Otherwise, courses
from fsearch.search.replay import Recorded, Replayed
from fsearch.search.specs import SCREEN_SEED
from fsearch.ui.layout import columns, paragraph, worded
from fsearch.ui.records import Records
from fsearch.ui.rules import Rules
from fsearch.ui.words import margin, points

THRESHOLDS = (0.0, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
"""What is tried where no threshold is asked for, as fractions."""


def lines(records: Records, replayed: Sequence[Replayed], rules: Rules, width: int) -> list[Text]:
    """Everything as it is printed: a table for each task and batch, then what another threshold means."""
    what = "records of the drafts" if records.drafts else "our export"
    head = f"{records.name}: {what}, {len(records.rows)} rows. Threshold: {rules.origin}."
    found = paragraph(head, width, indent=0, style="bold")
    for group in _groups(records.rows):
        mine = [item for item in replayed if _group_of(item.row) == _group_of(group[0])]
        found += [Text(), *_table(group, mine, rules, width)]
    found += _footnotes(records, replayed, width)
    if not records.drafts:
        found += _another_threshold(courses(records.rows, replayed, rules.planned), rules, width)
    return found


def _group_of(row: Recorded) -> tuple[str, str, int, int]:
    spec = row.attempt.spec
    return spec.plan, spec.search, spec.batch, spec.master_seed


def _groups(rows: Sequence[Recorded]) -> list[list[Recorded]]:
    """The screened and confirmed rows of each search, in the order of the file."""
    found: dict[tuple[str, str, int, int], list[Recorded]] = {}
    for row in rows:
        if row.attempt.spec.role in ("screen", "confirm"):
            found.setdefault(_group_of(row), []).append(row)
    return list(found.values())


def _table(rows: Sequence[Recorded], replayed: Sequence[Replayed], rules: Rules, width: int) -> list[Text]:
    """One task and batch: its quick baselines, then each variant and, beneath it, its confirmation."""
    spec = rows[0].attempt.spec
    master = "" if rows[0].drafts else f"  master seed {spec.master_seed}"
    found = [Text(f"{spec.search}  batch {spec.batch}{master}", "bold cyan")]
    seeds = {row.seed for row in rows} if rows[0].drafts else {SCREEN_SEED}
    for row in rows:
        if row.is_baseline and row.attempt.spec.role == "screen" and row.seed in seeds:
            found += _baseline(row, len(seeds) > 1, width)
    screened = next((row.attempt.spec for row in rows if row.attempt.spec.role == "screen"), None)
    if screened is not None:
        found += paragraph(f"prune below {margin(rules.prune_below(screened))}", width, style="dim")
    if not replayed:
        return [*found, *paragraph("no variant was tried", width)]
    head: list[Text | str] = [Text(cell, "dim") for cell in ("variant", "", "stage", "score", "d_acc")]
    cells: list[list[Text | str]] = [[*head, Text("decision", "dim")]]
    beneath: list[list[Text]] = [[]]
    for entry in _entries(replayed):
        for item in entry:
            if item.row.attempt.spec.role == "screen":
                cells.append(_cells(item, len(seeds) > 1))
                beneath.append(_why(item, width))
        if entry[0].row.attempt.spec.role == "confirm":
            cells.append([entry[0].row.attempt.spec.variant, _seed(entry[0], len(seeds) > 1), *[""] * 4])
            beneath.append([])
        beneath[-1] += _confirmation([one for one in entry if one.row.attempt.spec.role == "confirm"], width)
    table = columns(cells, "<<<>><")
    return found + [line for row, more in zip(table, beneath, strict=True) for line in (row, *more)]


def _baseline(row: Recorded, several: bool, width: int) -> list[Text]:
    spec, score = row.attempt.spec, row.attempt.score
    which = f"{spec.stage} {spec.variant}"
    if several and row.seed is not None:
        which += f", seed {row.seed}"
    if score is None:
        reason = row.attempt.reason or "no score was recorded"
        return paragraph(f"{which}: failed: {reason}", width, style="red")
    return paragraph(f"{which}: {_score(score)}", width, style="dim")


def _entries(replayed: Sequence[Replayed]) -> list[list[Replayed]]:
    """A variant's screening and then its confirmation; in the drafts' records one for each seed."""
    found: dict[tuple[str, int | None], list[Replayed]] = {}
    for item in replayed:
        seed = item.row.seed if item.row.drafts else None
        found.setdefault((item.row.attempt.spec.variant, seed), []).append(item)
    return [sorted(entry, key=lambda one: one.row.attempt.spec.role == "confirm") for entry in found.values()]


def _cells(item: Replayed, several: bool) -> list[Text | str]:
    attempt = item.row.attempt
    score = "-" if attempt.score is None else _score(attempt.score)
    decided = worded(item.decision or attempt.outcome or "")
    if item.tie:
        decided = Text.assemble(decided, "  exact tie")
    if item.differs:
        decided = Text.assemble(decided, (f"  (the run: {item.row.decision})", "yellow"))
    variant = [attempt.spec.variant, _seed(item, several)]
    return [*variant, attempt.spec.stage, score, points(item.d_acc), decided]


def _seed(item: Replayed, several: bool) -> str:
    return f"seed {item.row.seed}" if several and item.row.seed is not None else ""


def _why(item: Replayed, width: int) -> list[Text]:
    if not item.reason:
        return []
    return paragraph(item.reason, width, indent=6, style="red" if item.decision == "failed" else "dim")


def _confirmation(items: Sequence[Replayed], width: int) -> list[Text]:
    """What the confirmation said: of the drafts row by row, of ours over its seeds."""
    found: list[Text] = []
    for item in items if items and items[0].row.drafts else ():
        attempt = item.row.attempt
        level = "failed" if attempt.score is None else _score(attempt.score)
        compared = item.verdict or f"d_acc {points(item.d_acc)}"
        said = f"{attempt.spec.stage} {level}: {compared}"
        if item.drafts_delta is not None:
            said += f"; as the drafts reported it {points(item.drafts_delta)}"
        found += paragraph(said, width, indent=6)
        if item.decision == "failed":
            found += _why(item, width)
    if items and not items[0].row.drafts:
        matched = [item.d_acc for item in items if item.d_acc is not None]
        parts = [next((item.verdict for item in items if item.verdict), "no verdict yet")]
        if matched:
            parts.insert(0, f"{points(fmean(matched))} over {len(matched)} seed{'s' * (len(matched) > 1)}")
        if items[0].drafts_delta is not None:
            parts.append(f"drafts {points(items[0].drafts_delta)}")
        found += paragraph(f"{items[0].row.attempt.spec.stage} {', '.join(parts)}", width, indent=6)
    return found


def _footnotes(records: Records, replayed: Sequence[Replayed], width: int) -> list[Text]:
    notes = ["d_acc in percentage points against the baseline of the same task, batch, stage and seed."]
    if any(item.drafts_delta is not None for item in replayed):
        notes.append(
            "drafts: medium minus quick baseline. It compares runs of different lengths and shows nothing."
            if not records.drafts
            else "As the drafts reported it: medium minus quick baseline, which were trained for different "
            "numbers of steps. Where no matched baseline is recorded, the gain at that length is unknown."
        )
    if records.superseded:
        notes.append(f"{records.superseded} superseded rows (other code, data or machine) are left out.")
    if differing := sum(item.differs for item in replayed):
        notes.append(f"{differing} decisions are not those of the run: it had another threshold.")
    return [Text()] + [line for note in notes for line in paragraph(note, width, indent=0, style="dim")]


def _another_threshold(found: Sequence[Course], rules: Rules, width: int) -> list[Text]:
    """What was spent on confirmation, and how much more or less it would have been."""
    if not found:
        return []
    ran = [spec for course in found for spec in course.confirmed]
    heading = Text("What another threshold would have cost, and what it would have lost", "bold")
    spent = f"As it went: {len(ran)} confirmation attempts, {sum(spec.steps for spec in ran)} steps."
    cells: list[list[Text | str]] = [[Text(cell, "dim") for cell in ("prune below", "attempts", "steps", "")]]
    beneath: list[list[Text]] = [[]]
    for threshold in THRESHOLDS if rules.threshold is None else (rules.threshold,):
        each = [(course, course.at(threshold)) for course in found]
        cells.append([margin(threshold), *_cost([one for _, one in each])])
        lost = [f"{name} ({course.label})" for course, one in each for name in one.lost]
        unknown = [f"{name} ({course.label})" for course, one in each for name in one.unknown]
        more = paragraph(f"lost, though confirmed as better: {', '.join(lost)}", width, indent=6) * bool(lost)
        if unknown:
            text = f"never confirmed, so nobody knows what they would have shown: {', '.join(unknown)}"
            more += paragraph(text, width, indent=6, style="dim")
        beneath.append(more)
    table = columns(cells, ">>><")
    notes = (
        "More (+) or fewer (-) than ran, baselines included. Verdicts stay as recorded: with other variants "
        "under confirmation their correction would be another, which a replay cannot redo."
    )
    return [
        *(Text(), heading),
        *paragraph(spent, width),
        *(line for row, more in zip(table, beneath, strict=True) for line in (row, *more)),
        *paragraph(notes, width, indent=0, style="dim"),
    ]


def _cost(each: Sequence[Otherwise]) -> list[Text | str]:
    """Attempts and steps, as far as they are known."""
    attempts = sum(one.attempts or 0 for one in each)
    steps = sum(one.steps or 0 for one in each)
    open_ones = sum(one.attempts is None for one in each)
    said = "at most" if any(one.at_most for one in each) else ""
    if open_ones:
        said = f"and more, not known, in {open_ones} search{'es' * (open_ones > 1)}"
    return [f"{attempts:+d}", f"{steps:+d}", said]


def _score(fraction: float) -> str:
    """With the two digits that the drafts give."""
    return f"{fraction * 100:.2f} %"
