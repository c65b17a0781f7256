"""What runs now, as lines: the attempt, how far it is, its curve against the baseline's, the machine."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from shlex import quote

from rich.text import Text

from fsearch.plan import BASELINE
from fsearch.ui.layout import bar, cut, paragraph, pulled_apart, sparkline
from fsearch.ui.moment import Moment
from fsearch.ui.node_table import now_table
from fsearch.ui.nodes import nodes_now
from fsearch.ui.state import shown
from fsearch.ui.training import Machine, Training
from fsearch.ui.view import PlanView
from fsearch.ui.waits import missing_networks, waits_for
from fsearch.ui.words import age, duration, energy, memory, percent, points, since

_LONGEST_BAR = 40
_GAP = "   "
_PHASES = {"start": "starting", "load": "loading", "train": "training", "evaluate": "evaluating"}


def now_lines(moment: Moment, view: PlanView, now: datetime, width: int) -> list[Text]:
    """What happens at this moment, or why nothing does."""
    assert moment.daemon is not None
    if moment.life != "running":
        return _at_rest(moment, view, now, width)
    if all(row.spec.role == "prepare" for row in moment.running):
        lines = paragraph(moment.daemon.step, width, indent=0)
    else:
        lines = [*_attempt(moment, now, width), *_missing(moment, now, width)]
    if nodes := nodes_now(moment.daemon.progress):
        queue = sum(waits_for(moment, search) == "its turn" for search in view.searches)
        lines += now_table(nodes, view.nodes, queue, width)
    beside = [row.spec.search for row in moment.running if row.spec.role == "prepare"]
    return [
        *lines,
        *(cut(Text(f"the data of {search} are being prepared", "dim"), width) for search in beside),
    ]


def _at_rest(moment: Moment, view: PlanView, now: datetime, width: int) -> list[Text]:
    """Since when nothing runs, what is left, and what to type."""
    daemon, count = moment.daemon, moment.count
    assert daemon is not None
    when = age(daemon.ended or daemon.beat_at, now)
    given_up = list(dict.fromkeys(search.outage.what for search in view.searches if search.outage))
    where = "" if shown(moment.state) == "./state" else f" --state {quote(shown(moment.state))}"
    if view.finished and not given_up:
        sentence = f"Finished {when} ago. `fsearch report{where}` says what was found."
        return paragraph(sentence, width, indent=0)
    left = f"about {count.waiting} of {count.expected} attempts left"
    if view.finished:
        sentence = f"Ended {when} ago without {', '.join(given_up)}, for want of a network;"
    elif moment.life == "died":
        sentence = f"Nothing runs: killed, last sign of life {age(daemon.beat_at, now)} ago, {left};"
    else:
        sentence = f"Stopped {when} ago, {left};"
    command = f"fsearch run {quote(shown(Path(moment.path)))}{where}"
    if len(whole := f"{sentence} start `{command}` to go on.") <= width:
        return [Text(whole)]
    return [*paragraph(f"{sentence} to go on, start:", width, indent=0), Text(f"  {command}", "bold")]


def _attempt(moment: Moment, now: datetime, width: int) -> list[Text]:
    assert moment.daemon is not None
    row = moment.running[-1]
    spec = row.spec
    name = {"build": "the kernel is being built", "inspect": "the model is being inspected"}.get(spec.role)
    if spec.role == "probe":
        how = " with layers recomputed" if spec.recompute == "layers" else ""
        name = f"{spec.search}  does batch {spec.batch} fit{how}?"
    elif name is None:
        name = "  ".join(part for part in (spec.search, spec.stage, spec.variant) if part)
        name += f"  seed {spec.seed}" if spec.role in ("screen", "confirm") else ""
        name += f"  try {row.try_number}" if row.try_number > 1 else ""
    since_start = duration(since(row.started_at, now).total_seconds())
    lines = [pulled_apart(Text(name, "bold"), Text(since_start, "dim"), width)]
    if moment.training is None:
        _, _, doing = moment.daemon.step.partition(": ")
        lines.append(cut(Text(_PHASES.get(doing, doing), "dim"), width))
    else:
        lines += _progress(moment.training, spec.variant, width)
    return [*lines, *([_machine(moment.machine, width)] if moment.machine else [])]


def _progress(training: Training, variant: str, width: int) -> list[Text]:
    """Step, speed and time left; then loss and score so far."""
    words = [f" step {training.step} of {training.steps}"]
    if training.tokens_per_s is not None:
        words.append(f"{training.tokens_per_s:,.0f} tokens/s")
    if training.left_s is not None and training.step < training.steps:
        words.append(f"{duration(training.left_s)} left")
    told = _GAP.join(words)
    meter = bar(training.step, 0, training.steps, max(8, min(_LONGEST_BAR, width - len(told))))
    lines = [cut(Text.assemble(meter, told), width)]
    told = ""
    if training.score is not None:
        told = f"acc {percent(training.score)}"
        if variant != BASELINE and training.d_acc is not None:
            compared = f"{BASELINE} {percent(training.baseline_score)}"
            told = f"d_acc {points(training.d_acc, 1)} pp ({compared})"
        told += f" at step {training.evaluated_step}"
    if training.loss is not None:
        loss = f"loss {training.loss:.3f} "
        room = min(_LONGEST_BAR, width - len(loss) - len(_GAP) - len(told))
        curve = sparkline(training.losses, max(8, room))
        lines.append(cut(Text.assemble(loss, (curve, "cyan"), _GAP if told else "", told), width))
    elif told:
        lines.append(cut(Text(told), width))
    return lines


def _machine(machine: Machine, width: int) -> Text:
    """The GPU's readings; without a GPU what the process takes of the processors and the memory."""
    words = []
    reading, usage = machine.reading, machine.usage
    if reading is not None:
        if reading.utilisation is not None:
            words.append(f"{reading.utilisation * 100:.0f} % busy")
        if reading.memory_mib is not None:
            words.append(memory(reading.memory_mib))
        if reading.power_w is not None:
            words.append(f"{reading.power_w:.0f} W")
        if reading.temperature_c is not None:
            words.append(f"{reading.temperature_c:.0f} °C")
    elif usage is not None:
        words += [f"CPU {usage.cpus * 100:.0f} %", memory(usage.memory_mib)]
    if machine.energy_mj is not None:
        words.append(f"{energy(machine.energy_mj)} so far")
    told = _GAP.join(words)
    name = Text(machine.name)
    name.truncate(max(12, width - len(told) - len(_GAP)), overflow="ellipsis")
    return cut(Text.assemble(name, _GAP if name.plain and told else "", told, style="dim"), width)


def _missing(moment: Moment, now: datetime, width: int) -> list[Text]:
    """What a network is missing for while something else trains."""
    return [cut(Text(sentence, "yellow"), width) for sentence in missing_networks(moment, now)]
