"""`notify`: which commands may stand in a plan, and that they are no part of what is trained."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fsearch.plan import PlanError, expand, parse
from fsearch.search.specs import search_key
from fsearch.tasks import schemas

PLAN = (Path(__file__).parents[2] / "plans" / "demo.yaml").read_text()


@pytest.mark.parametrize(
    ("value", "command"),
    [
        ("./tell.sh", ("./tell.sh",)),
        ("curl -sS -d @- 'a b'", ("curl", "-sS", "-d", "@-", "a b")),
        ("[sh, -c, 'jq -r .text | cat']", ("sh", "-c", "jq -r .text | cat")),
        ("null", None),
    ],
)
def test_a_command_is_its_words(value: str, command: tuple[str, ...] | None) -> None:
    """A string is split as a shell would, and nothing in it is expanded."""
    assert parse(f"{PLAN}notify: {value}\n", schemas()).notify == command


@pytest.mark.parametrize("value", ["[]", "''", "3", "[curl, 3]", "{command: curl}", '"\'"', "['']"])
def test_what_is_no_command(value: str) -> None:
    """It is refused where it stands."""
    with pytest.raises(PlanError) as caught:
        parse(f"{PLAN}notify: {value}\n", schemas(), "plan.yaml")
    line = PLAN.count("\n") + 1
    assert str(caught.value).startswith(f"plan.yaml:{line}:"), caught.value
    assert "notify" in str(caught.value)


def test_it_is_in_no_id() -> None:
    """Neither the plan's nor a search's."""
    with_it, without = parse(f"{PLAN}notify: ./tell.sh\n", schemas()), parse(PLAN, schemas())
    assert with_it.id == without.id
    assert [search_key(one) for one in expand(with_it)] == [search_key(one) for one in expand(without)]


def test_the_examples_of_the_docs() -> None:
    """Each of them is a command."""
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    examples = re.findall(r"^notify: .*$", page, re.MULTILINE)
    assert len(examples) == 5
    for example in examples:
        assert parse(f"{PLAN}{example}\n", schemas()).notify
