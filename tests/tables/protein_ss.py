"""lamm-mit/protein_secondary_structure_from_PDB: the packaged chains, relatives of them, and bad rows."""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import fsearch.tasks

REPO, CONFIG = "lamm-mit/protein_secondary_structure_from_PDB", None


@cache
def packaged() -> list[dict[str, Any]]:
    """The chains that come with fsearch, the 110 largest of which are left out: tables should be small."""
    file = Path(fsearch.tasks.__file__).parent / "data" / "proteins.jsonl.gz"
    rows = [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]
    return sorted(rows, key=lambda row: (len(row["Sequence"]), row["PDB_ID"]))[:-110]


def splits() -> dict[str, list[dict[str, Any]]]:
    """One split, as the data set has: 146 chains, 30 near-copies of those from 96 residues on, 7 bad rows."""
    rows = [row(chain["PDB_ID"], chain["Sequence"], chain["Secondary_structure"]) for chain in packaged()]
    copies = [
        row(f"{chain['PDB_ID']}_copy", near_copy(chain["Sequence"]), chain["Secondary_structure"])
        for chain in [chain for chain in packaged() if len(chain["Sequence"]) >= 96][:30]
    ]
    return {"train": [*rows, *copies, *refused()]}


def row(name: str, sequence: str | None, labels: str | None) -> dict[str, Any]:
    return {
        "PDB_ID": name,
        "Sequence": sequence,
        "Sequence_length": len(sequence or ""),
        "Secondary_structure": labels,
    }


def near_copy(sequence: str) -> str:
    """Another residue at every 20th place: three quarters of the 5-mers stay."""
    return "".join(
        letter if place % 20 != 10 else "A" if letter != "A" else "G" for place, letter in enumerate(sequence)
    )


def refused() -> list[dict[str, Any]]:
    """Nothing, no sequence, a gap, a structure too short, none at all, and a label of another alphabet."""
    sequence = "MKVLAEGHTWRDFNPQSCIY" * 6
    return [
        row("none", None, None),
        row("empty", "", ""),
        row("gap", sequence[:-1] + "-", "~" * 120),
        row("short", sequence, "~" * 119),
        row("unlabelled", sequence, None),
        row("label", sequence, "P" + "~" * 119),
        row("small", sequence[:95], "~" * 95),
    ]
