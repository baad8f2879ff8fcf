"""The words of NATS stand in the room of the broker: nobody else spells a bucket, a call or an answer."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.test_imports import ROOT, modules

ROOM: Final = "services/broker/"
WORDS: Final = (
    "$KV", "$JS.API", "$JS.ACK", "+ACK", "-NAK", "+WPI", "+TERM", "KV-Operation", "Nats-Marker-Reason",
)  # fmt: skip
ALLOWED: Final = {
    # The clock is below the broker's room, which has it for its own times.
    ("services/clock.py", "$JS.API"),
}


def spelled(source: str) -> Iterator[str]:
    """The words in a module's texts and bytes; docstrings and comments may speak of them."""
    tree = ast.parse(source)
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in said:
            text = node.value.decode(errors="replace") if isinstance(node.value, bytes) else str(node.value)
            yield from (word for word in WORDS if word in text)


def test_only_the_room_of_the_broker_spells_its_words() -> None:
    paths: dict[str, Path] = {path.relative_to(ROOT).as_posix(): path for path in modules().values()}
    found = {(name, word) for name, path in paths.items() for word in spelled(path.read_text())}
    outside = {(name, word) for name, word in found if not name.startswith(ROOM)}
    assert outside == ALLOWED
    assert {word for name, word in found if name.startswith(ROOM)} >= {*WORDS} - {"$JS.ACK"}


def test_a_word_is_found_wherever_it_is_spelled() -> None:
    for use in (
        'a = "$KV.x"',
        'f(b"+ACK")',
        'f"$JS.API.{x}"',
        '{"KV-Operation": "DEL"}',
        "def f(x='-NAK'): pass",
    ):
        assert list(spelled(use)), use
    assert list(spelled('"""It is answered with +ACK."""\n# $KV\n')) == []
