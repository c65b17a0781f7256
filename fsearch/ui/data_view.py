"""Prepared data as lines: what was left out and why, sizes, origins, an example, lengths, levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from rich.text import Text

from fsearch.search.outcomes import CLASSES
from fsearch.tasks import Origin, create
from fsearch.tasks.prepared import Prepared
from fsearch.tasks.task import END, Counts
from fsearch.ui.example_view import LEGEND, excerpt
from fsearch.ui.layout import columns, paragraph
from fsearch.ui.preparation import Ready
from fsearch.ui.state import shown
from fsearch.ui.words import duration, names, percent

PROMPT_LINES, ANSWER_LINES = 25, 13
BINS = 8
"""About so many bars in a histogram."""

_TODO = {
    "network_wait": "Give the same command again when there is a network; a cut download goes on where it "
    "was. `fsearch run` waits for it by itself and does the other searches meanwhile.",
    "disk_full": "Free some space on the disk of the state folder and of the hub's cache (HF_HOME), then "
    "give the same command again.",
    "hang": "Give the same command again; a download goes on where it was cut.",
}
"""What a person can do after an outcome whose reasons do not say it."""


def heading(number: int, width: int) -> list[Text]:
    """What is about to be shown, and how to read the examples."""
    many = "1 data set" if number == 1 else f"{number} data sets"
    legend = f"In the examples: {'; '.join(LEGEND)}."
    return [Text(f"data: {many}", "bold"), *paragraph(legend, width, style="dim")]


def lines(ready: Ready, width: int) -> list[Text]:
    """One data set in full, or why there is none."""
    result = paragraph(ready.wanted.label, width, indent=0, style="bold cyan")
    if len(ready.wanted.searches) > 1:
        result += paragraph(f"for the searches {', '.join(ready.wanted.searches)}", width, style="dim")
    if ready.data is None:
        return result + _failure(ready, width)
    data, meta = ready.data, ready.data.meta
    took = f"  in {duration(ready.seconds)}; sha256 {meta.sha256[:12]}"
    result.append(Text.assemble("  ", ("ready", "bold green"), (took, "dim")))
    result += [Text(), *_counts(meta.counts)]
    result += [Text(), *_facts(data, width)]
    splits = data.splits.values()
    prompt = np.concatenate([split.prompt_len.astype(np.int64) for split in splits])
    whole = np.concatenate([split.lengths for split in splits])
    result += [Text(), *lengths(prompt, whole, width)]
    return [*result, Text(), *_example(data, width)]


def ending(all_ready: list[Ready], width: int) -> list[Text]:
    """The last word: how many are ready, what the others lack, and what to do."""
    ready = sum(one.data is not None for one in all_ready)
    many = "1 data set" if len(all_ready) == 1 else f"{len(all_ready)} data sets"
    if ready == len(all_ready):
        return paragraph(f"{many} ready; `fsearch run` finds them prepared.", width, indent=0, style="green")
    result = paragraph(f"{ready} of {many} ready. Not ready:", width, indent=0, style="bold")
    for one in all_ready:
        if one.data is None:
            result += paragraph(f"{one.wanted.label}: {one.outcome}", width, style="red")
    for outcome in dict.fromkeys(one.outcome for one in all_ready):
        if outcome in _TODO:
            result += paragraph(f"{outcome}: {_TODO[outcome]}", width, indent=0)
    return result


def _failure(ready: Ready, width: int) -> list[Text]:
    result = [Text.assemble("  ", (ready.outcome, "bold red"), (f"  after {duration(ready.seconds)}", "dim"))]
    sentence, *table = ready.reason.splitlines() or [""]
    result += paragraph(sentence, width)
    result += [Text(f"  {line}") for line in table]  # counts, already in columns
    if ready.log is not None and CLASSES[ready.outcome] == "unknown":
        result += paragraph(f"log: {shown(ready.log)}", width, style="dim")
    return result


def _counts(counts: Counts) -> list[Text]:
    """What happened to the candidates of either split: looked at, left out and why, built, remarked on."""
    filters: list[str] = []
    remarks: list[str] = []
    for of_split in counts.values():
        counted = list(of_split)
        built = counted.index("built")
        filters += [name for name in counted[1:built] if name not in filters]
        remarks += [name for name in counted[built + 2 :] if name not in remarks]
    rows: list[list[Text | str]] = [[Text("candidates", "dim"), *(Text(split, "dim") for split in counts)]]

    def add(shown: Text | str, name: str) -> None:
        rows.append([shown, *(f"{of_split.get(name, 0):,}" for of_split in counts.values())])

    add("looked at", "candidates")
    for name in filters:
        add(f"left out: {name}", name)
    add(Text("built", "bold"), "built")
    for name in remarks:
        add(Text(f"of these: {name}", "yellow"), name)
    return columns(rows, "<" + ">" * len(counts))


def _facts(data: Prepared, width: int) -> list[Text]:
    meta = data.meta
    scored = np.concatenate(
        [np.add.reduceat(split.scored.astype(np.int64), split.offsets[:-1]) for split in data.splits.values()]
    )
    validation = meta.n_val_screen + meta.n_val_confirm
    halves = f"screen half {meta.n_val_screen:,}, confirm half {meta.n_val_confirm:,}"
    facts = {
        "examples": f"train {meta.n_train:,}; validation {validation:,}: {halves}",
        "scored": f"{_range(scored)} tokens an example",
        "levels": f"guessing scores {_level(meta.chance)}, always the most frequent answer token of the "
        f"training examples {_level(meta.majority)}",
        "vocabulary": f"{meta.vocab_size:,} tokens",
        "from": _origins(meta.origins) or "random numbers, without any file",
    }
    return _named(facts, width)


def _named(facts: Mapping[str, str], width: int) -> list[Text]:
    margin = 2 + max(map(len, facts)) + 2
    result = []
    for name, value in facts.items():
        first, *rest = paragraph(value, width, indent=margin)
        result += [Text.assemble("  ", (name, "dim"), first[2 + len(name) :]), *rest]
    return result


def _origins(origins: Sequence[Origin]) -> str:
    """Each data set once, with the hashes of what was read of it."""
    hashes: dict[str, dict[str, None]] = {}
    for origin in origins:
        commit = f" at commit {origin.commit[:12]}" if origin.commit else ""
        asked = f" ({origin.revision})" if commit and origin.revision != origin.commit else ""
        hashes.setdefault(f"{origin.name}{commit}{asked}", {})[origin.sha256[:12]] = None
    return "; ".join(f"{name}, sha256 {names(list(read))}" for name, read in hashes.items())


def _level(fraction: float) -> str:
    """A level, however small: that of guessing among 65,536 tokens is not 0."""
    return percent(fraction) if fraction >= 0.001 else f"{fraction * 100:.1g} %"


def _range(values: NDArray[np.int64]) -> str:
    low, high = int(values.min()), int(values.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}, median {int(np.median(values)):,},"


def lengths(prompt: NDArray[np.int64], whole: NDArray[np.int64], width: int) -> list[Text]:
    """A histogram of the lengths [n] in tokens of prompts, and of prompts with their answers."""
    result = _named({"lengths": f"prompt {_range(prompt)} tokens; with answer {_range(whole)} tokens"}, width)
    low, high = int(prompt.min()), int(whole.max())
    if low == int(prompt.max()) and int(whole.min()) == high:
        return result
    step = _round_step((high - low + 1) / BINS)
    begins = range(low // step * step, high + 1, step)
    edges = [*begins, begins[-1] + step]
    heads = [f"{begin:,} to {begin + step - 1:,}" if step > 1 else f"{begin:,}" for begin in begins]
    of_prompt, of_whole = (np.histogram(values, edges)[0].tolist() for values in (prompt, whole))
    most = max(*of_prompt, *of_whole)
    digits = len(f"{most:,}")
    room = max(4, (width - 2 - max(max(map(len, heads)), len("tokens")) - 2 * digits - 4 * 2) // 2)
    rows: list[list[Text | str]] = [
        [Text("tokens", "dim"), Text("prompt", "dim"), "", Text("with answer", "dim"), ""]
    ]
    for head, few, many in zip(heads, of_prompt, of_whole, strict=True):
        bars = [Text("█" * max(round(room * n / most), 1) if n else "", "cyan") for n in (few, many)]
        numbers = [f"{n:,}" if n else "" for n in (few, many)]
        rows.append([head, bars[0], numbers[0], bars[1], numbers[1]])
    return [*result, *columns(rows, "><><>")]


def _round_step(least: float) -> int:
    """The smallest of 1, 2, 5, 10, 20, 50, ... that is not below `least`."""
    power = 1
    while True:
        for digit in (1, 2, 5):
            if digit * power >= least:
                return digit * power
        power *= 10


def _example(data: Prepared, width: int) -> list[Text]:
    """The training example of median length."""
    train = data.split("train")
    place = int(np.argsort(train.lengths, kind="stable")[len(train) // 2])
    example = train.example(place)
    prompt, answer = create(data.meta.task, data.meta.arguments).spans(example)
    head = f"number {place:,} of the training examples, the one of median length"
    scored, length = int(np.count_nonzero(example.scored)), len(example.tokens) - example.prompt_len
    answered = f"answer, {scored:,}{f' of {length:,}' if 0 < length != scored else ''} tokens scored"
    if not length:
        answered += ", predicted at their places inside the prompt"
    elif example.targets[-1] == END and not example.scored[-1]:
        answered += "; then the end token, trained and not scored"
    return [
        *_named({"example": head}, width),
        Text(f"  prompt, {example.prompt_len:,} tokens", "dim"),
        *excerpt(prompt, width, PROMPT_LINES),
        *paragraph(answered, width, style="dim"),
        *excerpt(answer, width, ANSWER_LINES),
    ]
