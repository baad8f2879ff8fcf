"""Names of files that others have given."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from switchyard.services.file_names import NAME_BYTES, safe, unique

ODD = {
    "../../etc/passwd": "_._.._etc_passwd",
    "/abs": "_abs",
    "C:\\x": "C__x",
    "con": "_con",
    "LPT1.txt": "_LPT1.txt",
    "": "file",
    ".": "file",
    "..": "file",
    "a. ": "a",
    ".bashrc": "_bashrc",
    "a\x00b\n": "a_b_",
    "e\u202egnp.exe": "e_gnp.exe",
    "plain name (1).png": "plain name (1).png",
}


def test_odd_names_are_made_plain() -> None:
    assert {name: safe(name) for name in ODD} == ODD


@given(st.lists(st.text(max_size=300), max_size=20))
def test_names_are_safe_unique_and_not_too_long(names: list[str]) -> None:
    taken: set[str] = set()
    made = [unique(safe(name), taken) for name in names]
    assert len({name.casefold() for name in made}) == len(made)
    for name in made:
        assert name not in ("", ".", "..")
        assert not {*name} & {*'/\\:\0\n*?"<>|'}
        assert 0 < len(name.encode()) <= NAME_BYTES


def test_a_name_that_is_taken_gets_a_number_before_its_ending() -> None:
    taken: set[str] = set()
    assert [unique(name, taken) for name in ("a.png", "A.png", "a.png", "a")] == [
        "a.png", "A (2).png", "a (3).png", "a",
    ]  # fmt: skip
