"""An access token is used, and then found nowhere: not in messages, not in a log, not in what is kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub import Fault, Hub, tables
from tests.tables import arc
from tests.train.preparations import Preparation, run

TOKEN = "hf_" + "SecretOfTheTest0"
PLAIN = "a-secret-without-a-prefix"
ARC = {"tokenizer": "bytes", "revision": "main", "n_train": 40, "n_val": 16}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub(tables([arc])) as hub:
        yield hub


@pytest.mark.parametrize(
    ("where", "token", "status"),
    [("variable", TOKEN, 200), ("variable", PLAIN, 401), ("file", PLAIN, 403), ("file", TOKEN, 503)],
)
def test_a_token_is_found_nowhere(hub: Hub, tmp_path: Path, where: str, token: str, status: int) -> None:
    """Whether the hub serves, or refuses and sends the token back in a header that its client quotes."""
    if status != 200:
        said = {"X-Error-Message": f"you sent Bearer {token}", "X-Request-Id": token}
        hub.faults.append(Fault("", "status", status=status, headers=said))
    preparation = Preparation(tmp_path, hub.address, task="arc", arguments=dict(ARC))
    if where == "variable":
        preparation.environment["HF_TOKEN"] = token
    else:
        preparation.home.mkdir()
        (preparation.home / "token").write_text(token)
    ended = run(preparation)
    assert ended.word == {200: "completed", 503: "network_wait"}.get(status, "data_refused"), preparation.log
    assert hub.authorized == {f"Bearer {token}"}
    assert token not in str(ended.messages) and token not in str(ended.outcome)
    if status in (401, 403):
        assert "[token]" in str(ended.messages)
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and path != preparation.home / "token"]
    assert kept or status != 200
    assert [path for path in kept if token.encode() in path.read_bytes()] == []
