"""From what a person typed to a plan: a file, a packaged plan, or a plan of the record by name or id.

All that is wrong with a plan becomes one UserError whose lines each name file, line and column.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import fsearch
from fsearch.plan import HUB, Plan, PlanError, json_schema, parse
from fsearch.store import PlanRecord
from fsearch.tasks import create, schemas
from fsearch.ui.completions import require_what_is_decided_on
from fsearch.ui.errors import UserError

_SUFFIXES = (".yaml", ".yml")
_SHORTEST_ID = 6
_MOST_BYTES = 256 << 10


@dataclass(frozen=True, slots=True)
class PlanFile:
    """A valid plan, as it was named and where it is."""

    plan: Plan
    path: Path
    packaged: bool


def schema() -> dict[str, Any]:
    """The JSON Schema of a plan, with every task's arguments."""
    return json_schema(_schemas())


def packaged_folder() -> Path | None:
    """The plans that come with fsearch: inside the wheel, else beside the package in a checkout."""
    package = Path(fsearch.__file__).parent
    return next((place for place in (package / "plans", package.parent / "plans") if place.is_dir()), None)


def find(name: str) -> tuple[Path, bool]:
    """The file that a name on the command line means, and whether it is a packaged one.

    Raises UserError where there is none.
    """
    path = Path(name)
    if path.exists():
        if not path.is_file():
            raise UserError(f"{name} is not a file; a plan is a YAML file such as plans/demo.yaml.")
        return path, False
    packaged = _packaged_plans()
    wanted = path if path.suffix in _SUFFIXES else path.with_name(f"{path.name}.yaml")
    wanted_name = wanted.as_posix().removeprefix("plans/")
    if wanted_name in packaged:
        return packaged[wanted_name], True
    beside = [file.as_posix() for file in _yaml_files(path.parent)]
    near = difflib.get_close_matches(path.as_posix().removeprefix("plans/"), [*beside, *packaged], n=1)
    hint = f" Did you mean {near[0]}?" if near else f" Packaged plans: {_listed(packaged)}"
    raise UserError(f"There is no plan file {name}.{hint}")


def read(name: str) -> PlanFile:
    """The plan of a file on the command line. Raises UserError where it cannot be read or is wrong."""
    path, packaged = find(name)
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise UserError(
                f"{path}:1:1: this is more than {_MOST_BYTES >> 10} KiB; a plan is a page of YAML."
            )
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        *above, line = content[: error.start].split(b"\n")
        place = f"{path}:{len(above) + 1}:{len(line) + 1}"
        byte = f"the byte 0x{content[error.start]:02x}"
        raise UserError(f"{place}: {byte} here is not UTF-8; save the plan as plain UTF-8 text.") from None
    except OSError as error:
        raise UserError(f"{path}: the plan cannot be read ({error.strerror}).") from None
    try:
        return PlanFile(parse(text, _schemas(), str(path)), path, packaged)
    except PlanError as error:
        raise UserError(str(error)) from None


def read_runnable(name: str) -> PlanFile:
    """A plan that can be run here. Raises UserError, naming all that cannot."""
    file = read_available(name)
    place = file.plan.checkpoint
    if place is not None and not is_address(place) and not Path(place).is_file():
        raise checkpoint_error(file.plan, _no_file(Path(place)))
    require_what_is_decided_on(file.plan)
    return file


def read_available(name: str) -> PlanFile:
    """A plan whose data are here, as far as they are files. Raises UserError, naming all that are not."""
    file = read(name)
    absent = [
        str(file.plan.source.problem(("tasks", index, "data"), _no_file(data)))
        for index, entry in enumerate(file.plan.entries)
        if (data := create(entry.task, entry.arguments).arguments.file) and not data.is_file()
    ]
    if absent:
        raise UserError("\n".join(absent))
    return file


def _no_file(path: Path) -> str:
    what = "is not a file" if path.exists() else "is not there"
    return f"{path} {what}; the path is relative to the plan file"


def is_address(checkpoint: str) -> bool:
    """Whether a checkpoint is downloaded, rather than a file here."""
    return checkpoint.startswith(HUB)


def lacks_checkpoint(plan: Plan) -> bool:
    """Whether nothing is where the plan's checkpoint should be; never of one that is downloaded."""
    place = plan.checkpoint
    return place is not None and not is_address(place) and not Path(place).exists()


def checkpoint_error(plan: Plan, why: str) -> UserError:
    """What is wrong with a plan's checkpoint, at its place in the plan."""
    return UserError(str(plan.source.problem(("model", "checkpoint"), why)))


def recorded(record: PlanRecord) -> Plan | None:
    """The plan as it was recorded; None where this release cannot read it."""
    try:
        return parse(record.text, _schemas(), record.path)
    except PlanError:
        return None


def chosen(name: str, records: list[PlanRecord]) -> Plan:
    """The plan that a viewer's PLAN means: the name or id of a recorded one, else a file.

    Raises UserError where it is none of them, or ambiguous.
    """
    named = [record for record in records if name == record.name or _is_id(name, record.id)]
    if not Path(name).exists() and named:
        if len(named) > 1:
            ids = ", ".join(record.id for record in named)
            raise UserError(f"{name!r} names {len(named)} recorded plans; give one of their ids: {ids}.")
        plan = recorded(named[0])
        if plan is None:
            raise UserError(f"The recorded plan {name!r} was written by another release and cannot be read.")
        return plan
    try:
        return read(name).plan
    except UserError as error:
        if records and not Path(name).exists():
            known = ", ".join(f"{record.name!r} ({record.id[:8]})" for record in records)
            neither = f"{name!r} is neither a plan file nor a recorded plan."
            raise UserError(f"{neither} Recorded: {known}.") from error
        raise


def _schemas() -> Mapping[str, type[BaseModel]]:
    return schemas()


def _packaged_plans() -> dict[str, Path]:
    """Every packaged plan by its path in the folder: `demo.yaml`, `rounds/r20.yaml`."""
    folder = packaged_folder()
    if folder is None:
        return {}
    files = [file for inside in (folder, *_folders(folder)) for file in _yaml_files(inside)]
    return {file.relative_to(folder).as_posix(): file for file in files}


def _folders(folder: Path) -> list[Path]:
    return sorted(inside for inside in folder.iterdir() if inside.is_dir())


def _yaml_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(file for file in folder.iterdir() if file.suffix in _SUFFIXES)


def _listed(names: Mapping[str, Path]) -> str:
    """The plans by name, those of a folder as its first and last."""
    single = [name for name in names if "/" not in name]
    folders: dict[str, list[str]] = {}
    for name in names:
        if "/" in name:
            folders.setdefault(name.split("/")[0], []).append(name)
    words = [*single, *(f"{inside[0]} to {Path(inside[-1]).name}" for inside in folders.values())]
    return f"{', '.join(words)}." if words else "none."


def _is_id(name: str, identity: str) -> bool:
    return len(name) >= _SHORTEST_ID and identity.startswith(name)
