"""The measurements by which this machine chooses between its CUDA kernels: a JSON file beside the library.

It bears the library's name, which stands for sources, compilers and GPU: another library has no table yet.
Measuring is not here (`fsearch bench kernel --tune`), nor what is chosen (`fsearch.kernels.choice`).
"""

from __future__ import annotations

import json
import math
import warnings
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from fsearch.system.files import write_atomic

from .choice import Measurement, Table

_SCHEMA = 1


def file_beside(library: Path) -> Path:
    """Where the table of a library is kept."""
    return library.with_suffix(".tuned.json")


def write(library: Path, table: Table, about: dict[str, Any]) -> Path:
    """Put a table in the place of the one before, whole or not at all. `about` is for people.

    Raises OSError.
    """
    file = file_beside(library)
    found = {"schema": _SCHEMA, **about, "measurements": [asdict(one) for one in table]}
    write_atomic(file, (json.dumps(found, indent=1) + "\n").encode())
    return file


def read(library: Path) -> Table:
    """The table of a library; an empty one if there is none. A damaged one is empty too, with a warning."""
    file = file_beside(library)
    try:
        found = json.loads(file.read_bytes())
        if found["schema"] != _SCHEMA:
            raise ValueError(f"its schema is {found['schema']!r}, not {_SCHEMA}")
        return tuple(_measurement(one) for one in found["measurements"])
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        warnings.warn(
            f"the table of measured kernels {file} cannot be used ({type(error).__name__}: {error}); the "
            "kernels are chosen by the rule. `fsearch bench kernel --tune` writes it anew",
            RuntimeWarning,
            stacklevel=2,
        )
        return ()


def _measurement(found: dict[str, Any]) -> Measurement:
    """One entry. Raises ValueError, LookupError or TypeError if it is none."""
    one = Measurement(**{field.name: found[field.name] for field in fields(Measurement)})
    texts, sizes, times = (one.architecture, one.decay), (one.B, one.T, one.H, one.N), (one.v1_ms, one.v2_ms)
    right = all(type(text) is str for text in texts) and all(type(size) is int and size > 0 for size in sizes)
    if not right or not all(type(time) in (int, float) and 0 < time < math.inf for time in times):
        raise ValueError(f"{found!r} is no measurement")
    return one
