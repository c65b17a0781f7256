"""heya5/protein_contact_map: the packaged chains, near-copies of some in the other split, and bad rows."""

from __future__ import annotations

from typing import Any

from tests.tables.protein_ss import near_copy, packaged

REPO, CONFIG = "heya5/protein_contact_map", None


def splits() -> dict[str, list[dict[str, Any]]]:
    """81 training and 67 validation rows, 8 and 6 of which are bad; 11 of training are near-copies."""
    chains = [row(c["name"], c["seq"], c["tertiary"], c["valid_mask"]) for c in packaged()]
    chains = [chain for chain in chains if len(chain["seq"]) >= 88]
    train, validation = chains[::2][:62], chains[1::2][:60]
    copies = [
        chain | {"name": f"{chain['name']}_copy", "seq": near_copy(chain["seq"])} for chain in validation
    ]
    return {
        "train": [*train, *copies[::6], copies[-1] | {"seq": validation[-1]["seq"]}, *refused(), loose()],
        "valid": [*validation, *refused()],
        "test": validation[:5],
    }


def row(name: str, sequence: str, coordinates: list[Any], mask: list[bool]) -> dict[str, Any]:
    return {"name": name, "seq": sequence, "tertiary": coordinates, "valid_mask": mask}


def refused() -> list[dict[str, Any]]:
    """No residue, a gap, two coordinates, one missing, one infinite, and a chain without a contact."""
    sequence = "MKVLAEGHTWRDFNPQSCIY" * 6
    line = [[3.8 * place, 0.0, 0.0] for place in range(120)]
    mask = [True] * 120
    return [
        row("empty", "", [], []),
        row("gap", sequence[:-1] + "-", line, mask),
        row("flat", sequence, [place[:2] for place in line], mask),
        row("missing", sequence, line[:-1], mask),
        row("infinite", sequence, [*line[:-1], [float("inf"), 0.0, 0.0]], mask),
        row("line", sequence, line, mask),
    ]


def loose() -> dict[str, Any]:
    """As the straight chain, but only masked residues are without a place."""
    chain = refused()[-1]
    nowhere = [[float("nan")] * 3] * 4
    return chain | {"tertiary": nowhere + chain["tertiary"][4:], "valid_mask": [False] * 4 + [True] * 116}
