"""What `fsearch doctor` looks at without torch, each in a process of its own: a look may hang, or crash.

    python -m fsearch.ui.doctor_checks --messages-fd N --parent PID     with the job on stdin

The job names one of LOOKS, and the state. Out goes a `finding` for each thing, and a `result`. Nothing is
changed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from fsearch.daemon import devices, lock, nvml, record_path
from fsearch.store import StoreCorrupt, StoreError, StoreMissing, StoreNewer
from fsearch.store.backup import backups, going_on
from fsearch.store.place import (
    check_record,
    file_system_of,
    refuse_network_file_system,
    refuse_read_only,
    refuse_unreadable,
)
from fsearch.store.schema import HEAD
from fsearch.system import hub_client, messages, process
from fsearch.system.chain import chain, first_line
from fsearch.system.disk import KEPT_BYTES, free_bytes
from fsearch.system.secrets import without_secrets

Level = Literal["ok", "warn", "fail"]
Tell = Callable[[str, Level, str, str], None]
"""Called with name, level, what was found, and what to do about it ("" for nothing)."""

PLENTY_BYTES = 5 << 30
"""Room that checkpoints and prepared data of a long plan may want."""

HUB_ANSWERS_S = 5.0
OLDEST_CAPABILITY = (8, 0)

_MIB, _GIB = 1 << 20, 1 << 30
_NONE = "none; training is on the CPU"
_PASSING = ("tmpfs", "ramfs")


def gpu(state: Path, tell: Tell) -> dict[str, Any]:
    """The GPUs and their driver.

    Gives what the kernel is built for (`cuda`), and whether a run uses that GPU (`busy`).
    """
    try:
        found = nvml.gpus()
    except nvml.NvmlError as error:
        if error.absent:
            tell("GPU", "ok", _NONE, "")
            tell("driver", "ok", "none for NVIDIA GPUs", "")
        else:
            tell("GPU", "fail", "not known, because the driver fails", "")
            tell("driver", "fail", f"NVML says: {error}", "restart the machine; nvidia-smi has to work")
        return {"cuda": [], "busy": False}
    try:
        version = nvml.driver()
    except nvml.NvmlError as error:
        version = f"its version is not known ({error})"
    device = devices.find("auto")
    _tell_gpu(found, device, tell)
    tell("driver", "ok", version, "")
    return {"cuda": list(device.cuda), "busy": device.lock in _held()}


def _tell_gpu(found: list[nvml.Gpu], device: devices.Device, tell: Tell) -> None:
    if not found:
        tell("GPU", "ok", _NONE, "")
        return
    names = ", ".join(gpu.model for gpu in found)
    if not device.uuid:
        if device.why:
            todo = "install a torch that is built for CUDA"
            tell("GPU", "warn", f"{names}; training is on the CPU, {device.why}", todo)
        else:
            tell("GPU", "ok", f"{names}, hidden by CUDA_VISIBLE_DEVICES; training is on the CPU", "")
        return
    chosen = next(gpu for gpu in found if gpu.uuid == device.uuid)
    words = f"{chosen.model}{f', the first of {len(found)}' * (len(found) > 1)}"
    with suppress(nvml.NvmlError):
        reading = nvml.read(device.uuid)
        if reading.free_mib is not None and reading.used_mib is not None:
            whole_gib = (reading.free_mib + reading.used_mib) / 1024
            words += f", {reading.free_mib / 1024:.1f} of {whole_gib:.1f} GiB are free"
    if chosen.capability < OLDEST_CAPABILITY:
        older = "older than compute capability 8.0: the kernel's portable form trains there, slowly"
        tell("GPU", "warn", f"{words}; it is {older}", "--device cpu may be faster")
        return
    tell("GPU", "ok", words, "")


def disk(state: Path, tell: Tell) -> None:
    """Room, kind of file system, and the right to write where the state is or will be."""
    with suppress(OSError):
        kind = file_system_of(_existing(state), Path("/proc/mounts").read_text(errors="surrogateescape"))
    free = free_bytes(state)
    room = f"{free / _GIB:.1f} GiB" if free >= _GIB else f"{free / _MIB:.0f} MiB"
    found = f"{room} are free at {state}{f' ({kind})' if kind else ''}"
    try:
        refuse_network_file_system(_existing(state))
    except StoreError as error:
        tell("disk", "fail", str(error), "give a folder on a local disk with --state")
        return
    if not os.access(_existing(state), os.W_OK | os.X_OK):
        tell("disk", "fail", f"{_existing(state)} may not be written by this user", "give another --state")
    elif free < KEPT_BYTES:
        tell("disk", "fail", found, f"make room: with less than {KEPT_BYTES // _MIB} MiB nothing is begun")
    elif kind in _PASSING:
        tell("disk", "warn", found, "a restart of the machine empties it: give another --state")
    elif free < PLENTY_BYTES:
        todo = f"make room before a long plan; {PLENTY_BYTES // _GIB} GiB are plenty"
        tell("disk", "warn", found, todo)
    else:
        tell("disk", "ok", found, "")


def _existing(place: Path) -> Path:
    """The folder itself, or the nearest one above it that is there."""
    while not place.exists():
        place = place.parent
    return place


def hub(state: Path, tell: Tell) -> None:
    """Whether the Hugging Face Hub, or what HF_ENDPOINT names in its place, answers."""
    hub_client.set_up()
    from huggingface_hub import constants, get_session

    place = without_secrets(constants.ENDPOINT)
    if constants.HF_HUB_OFFLINE:
        what = "not asked, because HF_HUB_OFFLINE is set: only what is in its cache can be had"
        tell("hub", "ok", what, "")
        return
    todo = "only plans that download need it: look at the network, HF_ENDPOINT and HTTPS_PROXY"
    began_s = time.monotonic()
    try:
        answer = get_session().head(f"{place}/api/models", timeout=HUB_ANSWERS_S)
    except Exception as error:  # of the client's HTTP library, which changes between its releases
        why = without_secrets(first_line(chain(error)[-1]))
        tell("hub", "warn", f"{place} does not answer ({why})", todo)
        return
    if answer.status_code >= 500 or answer.status_code == 429:
        tell("hub", "warn", f"{place} answers, but with {answer.status_code}", "try again later")
        return
    tell("hub", "ok", f"{place} answers, after {time.monotonic() - began_s:.1f} s", "")


def locks(state: Path, tell: Tell) -> None:
    """Who holds the devices of this machine; the locks are not touched."""
    folder = lock.folder_of_locks()
    if not os.access(_existing(folder), os.W_OK | os.X_OK):
        todo = "give another FSEARCH_LOCK_DIR, the same for everybody on this machine"
        tell("locks", "fail", f"{folder} may not be written by this user", todo)
        return
    try:
        held = _held()
    except OSError as error:
        tell("locks", "ok", f"who holds a device is not known ({error})", "")
        return
    if not held:
        tell("locks", "ok", f"nobody holds a device of this machine ({folder})", "")
        return
    who = "; ".join(f"{device} is in use by {holder}" for device, holder in held.items())
    tell("locks", "warn", who, "a second run on that device ends with 75: wait for it, or end it")


def _held() -> dict[str, str]:
    return lock.held(Path("/proc/locks").read_text())


def record(state: Path, tell: Tell) -> None:
    """Whether the record is whole, and of which schema."""
    path = record_path(state)
    try:
        refuse_unreadable(path)
        revision = check_record(path)
        refuse_read_only(path)
    except StoreMissing:
        tell("record", "ok", f"none yet in {state}; `fsearch run` begins it", "")
        return
    except StoreCorrupt as error:
        tell("record", "fail", str(error), going_on(path))
        return
    except StoreNewer as error:
        tell("record", "fail", str(error), "install the fsearch that wrote it, or give another --state")
        return
    except StoreError as error:
        tell("record", "fail", str(error), "")
        return
    copies = len(backups(path))
    found = f"whole, schema {revision}, {path.stat().st_size / _MIB:.1f} MiB"
    found += f", {copies} backup{'s' * (copies != 1)}"
    if revision != HEAD:
        tell("record", "ok", f"{found}; the next run brings it to schema {HEAD}", "")
        return
    tell("record", "ok", found, "")


LOOKS: dict[str, Callable[[Path, Tell], dict[str, Any] | None]] = {
    look.__name__: look for look in (gpu, disk, locks, record, hub)
}


def _main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages-fd", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    arguments = parser.parse_args()
    process.die_with_parent(arguments.parent)
    job = json.load(sys.stdin)

    def tell(name: str, level: Level, found: str, todo: str) -> None:
        message = {"type": "finding", "name": name, "level": level, "found": found, "todo": todo}
        messages.send(arguments.messages_fd, message)

    more = LOOKS[job["look"]](Path(job["state"]), tell) or {}
    messages.send(arguments.messages_fd, {"type": "result", **more})
    return 0


if __name__ == "__main__":
    sys.exit(_main())
