from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from switchyard.events.errors import InvalidError
from switchyard.events.requirements.matching import (
    Limits,
    canonical,
    canonical_prefers,
    explain,
    matches,
    score,
)

PAGE = (Path(__file__).parents[2] / "docs" / "requirements.md").read_text()


def rows(*header: str) -> list[list[str]]:
    """The cells of every table with this header, backquotes and escapes taken off."""
    found: list[list[str]] = []
    inside = False
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells == list(header):
            inside = True
        elif not cells:
            inside = False
        elif inside and set(cells[0]) != {"-"}:
            found.append([cell.strip("`").replace("\\|", "|") for cell in cells])
    return found


def as_json(text: str) -> Any:
    return json.loads(text)


EXAMPLES = rows("requirement", "capabilities", "result")
REFUSED = rows("requirement", "error")
SAME = rows("written", "canonical")
RANKS = rows("preference", "capabilities", "rank")


def test_the_page_has_its_examples() -> None:
    assert len(EXAMPLES) >= 40
    assert len(REFUSED) >= 10
    assert len(SAME) >= 10
    assert len(RANKS) >= 5


@pytest.mark.parametrize(("requirement", "capabilities", "result"), EXAMPLES)
def test_an_example_gives_what_the_page_says(requirement: str, capabilities: str, result: str) -> None:
    form, declared = canonical(as_json(requirement)), as_json(capabilities)
    message = "; ".join(clause.message for clause in explain(form, declared))
    assert (message or "matches") == result
    assert matches(form, declared) is (result == "matches")


@pytest.mark.parametrize(("requirement", "error"), REFUSED)
def test_a_refused_requirement_is_refused_with_what_the_page_says(requirement: str, error: str) -> None:
    with pytest.raises(InvalidError) as refused:
        canonical(as_json(requirement))
    assert refused.value.message == error
    assert refused.value.field == error.partition(": ")[0]


@pytest.mark.parametrize(("written", "form"), SAME)
def test_the_canonical_form_is_that_of_the_page(written: str, form: str) -> None:
    assert json.dumps(canonical(as_json(written))) == json.dumps(as_json(form))


@pytest.mark.parametrize(("preference", "capabilities", "rank"), RANKS)
def test_a_rank_is_that_of_the_page(preference: str, capabilities: str, rank: str) -> None:
    assert score(canonical_prefers(as_json(preference)), as_json(capabilities)) == int(rank)


def test_the_limits_are_those_of_the_page() -> None:
    limits = Limits()
    page = " ".join(PAGE.split())
    for rule in (
        f"at most {limits.depth} levels",
        f"{limits.clauses} operators",
        f"{limits.items} values in a list",
        f"{limits.bytes:,} bytes as JSON",
        f"at most {limits.regex_chars} characters",
        f"{limits.regex_program:,} instructions of RE2",
    ):
        assert rule in page, rule
