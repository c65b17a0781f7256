"""Which prepared data a daemon takes as they are, and which commits it holds on to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fsearch.daemon.known import Known
from fsearch.plan import expand
from fsearch.search.rows import DataFact
from fsearch.search.specs import prepare_spec
from fsearch.store import Store
from fsearch.system.files import sha256_file
from fsearch.tasks.prepared import code_sha256
from tests.search.builders import plan_of

COMMIT = "4" * 40


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "fsearch.db") as store:
        yield store


def fact(key: str, folder: Path, *origins: dict[str, str], code: str = "") -> DataFact:
    """Prepared data that are there, made by the present code unless another is named."""
    (folder / key).mkdir(exist_ok=True)
    numbers = {"vocab_size": 5, "n_train": 2, "n_val_screen": 1, "n_val_confirm": 1, "max_tokens": 9}
    return DataFact(
        key=key,
        path=str(folder / key),
        sha256=f"sha {key}",
        code_sha256=code or code_sha256(),
        origins=origins,
        **numbers,
    )


def origin(name: str, sha256: str = "a", commit: str = "", revision: str = "") -> dict[str, str]:
    return {"name": name, "revision": revision, "commit": commit, "sha256": sha256}


def known(store: Store) -> Known:
    return Known(store, [], {}, "d1")


def test_a_file_of_ones_own_is_looked_at_again(store: Store, tmp_path: Path) -> None:
    """Data made of it are used while it is what it was, not when it has changed or is gone."""
    file, other = tmp_path / "rows.jsonl", tmp_path / "other.jsonl"
    file.write_text('{"a": 1}\n')
    other.write_text('{"b": 1}\n')
    whole = [origin(str(path), sha256_file(path)) for path in (file, other)]
    store.put_fact(fact("mine", tmp_path, *whole))
    store.put_fact(fact("hub", tmp_path, origin("owner/name", commit=COMMIT, revision="main")))
    store.put_fact(fact("drawn", tmp_path))
    assert set(known(store).facts.data) == {"mine", "hub", "drawn"}
    other.write_text('{"b": 2}\n')
    assert set(known(store).facts.data) == {"hub", "drawn"}
    other.write_text('{"b": 1}\n')
    assert "mine" in known(store).facts.data
    file.unlink()
    assert set(known(store).facts.data) == {"hub", "drawn"}


def test_commits_are_held_on_to_whatever_code_read_them(store: Store, tmp_path: Path) -> None:
    """Data of older code are prepared anew, but from the same commits; files have none."""
    read = [
        origin("owner/name", commit=COMMIT, revision="main"),
        origin("owner/name", commit="5" * 40, revision="v2"),
        origin("/a/file.csv"),
    ]
    store.put_fact(fact("old", tmp_path, *read, code="older"))
    here = known(store)
    assert here.facts.data == {}
    assert here.pins == {"owner/name@main": COMMIT, "owner/name@v2": "5" * 40}


def test_what_a_preparation_has_read_is_pinned_at_once(store: Store, tmp_path: Path) -> None:
    """The next preparation of this daemon reads the same commit, and so does the next daemon's."""
    spec = prepare_spec(expand(plan_of())[0], "env")
    read = origin("owner/name", commit=COMMIT, revision="main")
    here = known(store)
    here.keep_data(spec, reported(fact("new", tmp_path)), [read])
    assert here.pins == known(store).pins == {"owner/name@main": COMMIT}
    (kept,) = known(store).facts.data.values()
    assert kept.origins == (read,) and kept.sha256 == "sha new"


def reported(made: DataFact) -> dict[str, object]:
    """What a preparation reports: all of a fact but its key and origins."""
    names = [name for name in DataFact.__slots__ if name not in ("key", "origins")]
    return {name: getattr(made, name) for name in names}
