"""`fsearch check PLAN`: is the plan valid, and what would it do? Touches nothing.

With --data it also prepares the data of every search, into the cache that a run uses, and shows them. With
--schema it prints the JSON Schema of a plan, for editors.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.text import Text

from fsearch.daemon import record_path
from fsearch.plan import Largest, Plan, Search, expand, sort_out
from fsearch.search.futility import STOPPED_EQUALS, look_step
from fsearch.search.noise import known_noise
from fsearch.search.probe import TRIES
from fsearch.search.rows import Attempt, ModelFact
from fsearch.search.specs import micro_batches, recompute_choices, search_key
from fsearch.search.statistics import operating_card
from fsearch.ui import data_view
from fsearch.ui.completions import UNSAFE, cost, sandbox
from fsearch.ui.counts import at_most, trained_variants
from fsearch.ui.errors import BUSY, FAILED, OK, UserError
from fsearch.ui.estimate import estimate
from fsearch.ui.inspection import inspected
from fsearch.ui.layout import columns, console, paragraph, put
from fsearch.ui.plans import PlanFile, is_address, lacks_checkpoint, read_available, schema
from fsearch.ui.preparation import known_pins, make_folders, prepare, wanted, watching
from fsearch.ui.state import folder, looking
from fsearch.ui.words import NOT_INSPECTED, card_warnings, margin, points
from fsearch.ui.words import operating_card as card_words

MOST_ROWS = 1000
"""Of a task, that are read to know the noise and speed of a search of it."""


def answer(options: argparse.Namespace) -> int:
    """Print what the plan would do. Raises UserError where it is wrong or its data are not here."""
    if options.schema:
        print(json.dumps(schema(), indent=1))
        return OK
    if options.plan is None:
        raise UserError("fsearch check: a PLAN is missing. Try `fsearch check --help`.")
    file = read_available(options.plan)
    model = None if lacks_checkpoint(file.plan) else inspected(file.plan)
    screen = console()
    state = folder(options.state)
    recorded = _recorded(state, expanded(file.plan, model))
    put(screen, lines(file, model, recorded, screen.width))
    return _show_data(file, state, screen) if options.data else OK


def expanded(plan: Plan, model: ModelFact | None) -> tuple[Search, ...]:
    """The plan's searches, as far as its checkpoint is known."""
    return expand(plan, {} if model is None else {model.key: model})


def _recorded(state: Path, searches: Sequence[Search]) -> list[Attempt]:
    """The rows of the record that tell of the searches' noise and speed; none without one that can be read.

    They are the searches' own and the newest of their tasks: a record may hold very many.
    """
    found: dict[tuple[str, int], Attempt] = {}
    if record_path(state).exists():
        with suppress(UserError), looking(state) as reader:  # a plan is right or wrong whatever the record is
            rows = reader.attempts(search_keys=[search_key(search) for search in searches])
            for task in dict.fromkeys(search.task for search in searches):
                rows += reader.newest_of_task(task, MOST_ROWS)
            found = {(row.spec.id, row.try_number): row for row in rows}
    return sorted(found.values(), key=lambda row: row.sequence)


def _show_data(file: PlanFile, state: Path, screen: Console) -> int:
    """Prepare and show every data set of the plan; one that cannot be had keeps no other waiting."""
    data_sets = wanted(file.plan)
    make_folders(state)
    pins = known_pins(state)
    put(screen, [Text(), *data_view.heading(len(data_sets), screen.width)])
    ended = []
    for number, one in enumerate(data_sets, 1):
        with watching(f"data {number} of {len(data_sets)}: {one.label}") as watch:
            ended.append(prepare(one, state, pins, watch))
        put(screen, [Text(), *data_view.lines(ended[-1], screen.width)])
    put(screen, [Text(), *data_view.ending(ended, screen.width)])
    missing = [one.outcome for one in ended if one.data is None]
    if not missing:
        return OK
    return BUSY if all(outcome == "network_wait" for outcome in missing) else FAILED


def lines(file: PlanFile, model: ModelFact | None, recorded: Sequence[Attempt], width: int) -> list[Text]:
    """The plan's searches, each with its attempts, its screen's errors and what would not be trained.

    `model` is the plan's checkpoint, where it has one that is here; `recorded` are rows of earlier runs.
    """
    plan = file.plan
    searches = expanded(plan, model)
    total = sum(sum(at_most(search)) for search in searches)
    source = f"{file.path}{' (packaged)' if file.packaged else ''}"
    many = "1 search" if len(searches) == 1 else f"{len(searches)} searches"
    result = [Text.assemble(("valid", "bold green"), f"  {plan.name}")]
    result += paragraph(f"{source}; id {plan.id}; master seed {plan.seed}", width, style="dim")
    if plan.checkpoint is not None:
        style = "yellow" if lacks_checkpoint(plan) else ""
        result += paragraph(_model_words(plan.checkpoint, model), width, style=style)
    result += paragraph(
        f"{many}, at most {total} trained attempts. A gain counts from {margin(plan.claim.at_least)} on, "
        f"at alpha {plan.claim.alpha:g}, corrected (Holm) over all confirmed variants of the plan.",
        width,
    )
    result += paragraph(estimate(searches, recorded), width)
    if plan.notify is not None:
        result += _notify(plan, plan.notify[0], width)
    for search in searches:
        result += [Text(), *_search(plan, search, recorded, width)]
    return result


def _notify(plan: Plan, program: str, width: int) -> list[Text]:
    """Which program is told what happens; a warning where it is not there."""
    there = shutil.which(str(Path(plan.folder) / program) if "/" in program else program)
    if there is None:
        return paragraph(f"notify: there is no program {program} that can be run", width, style="yellow")
    return paragraph(f"notify: {there} is told what happens", width)


def _model_words(checkpoint: str, model: ModelFact | None) -> str:
    if model is None and not is_address(checkpoint):
        return (
            f"the checkpoint {checkpoint} is not there (the path is relative to the plan file); no-ops that "
            "depend on its layers are not known yet, and `fsearch run` needs it"
        )
    if model is None:
        return (
            f"from the checkpoint {checkpoint}: it is not downloaded yet, so its layers are not known. "
            "`fsearch run` downloads it into the cache of the Hugging Face Hub (HF_HOME says where), and "
            "goes on where a download was cut."
        )
    return (
        f"from the checkpoint {checkpoint}: {model.n_layer} layers, width {model.n_embd}, head size "
        f"{model.head_size}, vocabulary {model.vocab_size}; SHA-256 {model.sha256[:16]}"
    )


def _search(plan: Plan, search: Search, recorded: Sequence[Attempt], width: int) -> list[Text]:
    sizes = at_most(search)
    result = [Text.assemble((search.label, "bold cyan"), (f"   at most {sum(sizes)} attempts", "dim"))]
    rows: list[list[Text | str]] = []
    for stage, size in zip(search.stages, sizes, strict=True):
        rows.append([stage.name, f"{stage.steps} steps", f"at most {size}", _stage_words(search, stage.name)])
    result += columns(rows, "<>><")
    if isinstance(search.batch, Largest):
        result += paragraph(_batch_words(search), width)
    if len(recompute_choices(search)) > 1:
        result += paragraph(_recompute_words(search), width)
    for words in cost(search, recorded):
        result += paragraph(words, width)
    if fault := sandbox(search):
        result += paragraph(f"warning: {fault}", width, style="yellow")
    elif search.completions.get("code_exec") == "unsafe":
        result += paragraph(UNSAFE, width, style="bold red")
    result += _look(search, width)
    result += _card(plan, search, recorded, width)
    trained = trained_variants(search)
    result += paragraph(f"{len(trained)} variants to train: {', '.join(trained) or 'none'}", width)
    if search.n_layer is None:
        return [*result, *paragraph(f"no-ops are not known: {NOT_INSPECTED}", width, style="yellow")]
    for found in sort_out(search.variants, search.n_layer):
        name = found.variant.name
        if found.noop:
            result += paragraph(f"no-op, not trained: {name}: {found.noop}", width, style="yellow")
        elif found.same_as:
            merged = f"merged: {name} is the same as {found.same_as} in this model"
            result += paragraph(merged, width, style="yellow")
    return result


def _batch_words(search: Search) -> str:
    most = micro_batches(search)[-1]
    memory = "nine tenths of what is free when it begins"
    if search.memory_mib is not None:
        memory = f"{search.memory_mib} MiB (limits.memory_mib)"
    return f"batch: the largest that fits, at most {most}, in {memory}"


def _recompute_words(search: Search) -> str:
    if isinstance(search.batch, Largest):
        tries = f"at most {TRIES} probes without and as many with it"
        return f"layers are recomputed if a larger batch fits so than without: {tries}"
    return "layers are recomputed only if without it not one example fits; only then is it probed"


def _look(search: Search, width: int) -> list[Text]:
    """When a run is looked at, and whom that may hit."""
    first = search.stages[0]
    step = look_step(search, first)
    if step is None:
        return []
    words = (
        f"look: a {first.name} variant that is too far below its baseline after step {step} of {first.steps} "
        f"is stopped there; of variants equal to the baseline at most {STOPPED_EQUALS * 100:g} %"
    )
    return paragraph(words, width)


def _card(plan: Plan, search: Search, recorded: Sequence[Attempt], width: int) -> list[Text]:
    """How the screen errs, from what is recorded of the noise."""
    if search.screen is None:
        return []
    noise = known_noise(search, recorded)
    if noise is None:
        floor = search.screen.noise_floor_seeds
        how = "the noise floor will tell" if floor else "noise_floor_seeds would tell"
        return paragraph(f"operating card: the noise is not known yet; {how}", width, style="dim")
    card = operating_card(search.screen.prune_below, plan.claim.at_least, noise.sd)
    of = "this search" if noise.own else "earlier searches of this task"
    origin = f"noise sd {noise.sd * 100:.2f} pp, {noise.runs} runs of {of}"
    result = paragraph(f"operating card: {card_words(card)} ({origin})", width)
    for warning in card_warnings(card):
        result += paragraph(f"warning: {warning}", width, style="yellow")
    return result


def _stage_words(search: Search, name: str) -> str:
    last = search.stages[-1]
    if name == last.name:
        more = f", {last.most_seeds} where undecided" if last.most_seeds > last.first_seeds else ""
        return f"{last.first_seeds} fresh seeds{more}, each with its own baseline"
    assert search.screen is not None
    words = f"prune below {points(search.screen.prune_below)} pp"
    if name == search.stages[0].name and search.screen.noise_floor_seeds:
        words += f", noise floor on {search.screen.noise_floor_seeds} seeds"
    if name == search.stages[-2].name and search.screen.promote_at_most is not None:
        words += f", promote {search.screen.promote_at_most}"
    return words
