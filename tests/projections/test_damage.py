"""What SQLite says of a file that is damaged, and of a question that it does not take."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from switchyard.projections.database import damage_of


def refused(question: str, *given: Any) -> sqlite3.Error:
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute("CREATE TABLE jobs(id TEXT, number INTEGER)")
        connection.executemany("INSERT INTO jobs VALUES (?, ?)", [("a", 2**63 - 1), ("b", 2**63 - 1)])
        with pytest.raises(sqlite3.Error) as raised:
            connection.execute(question, given).fetchall()
        return raised.value
    finally:
        connection.close()


QUESTIONS: dict[str, tuple[Any, ...]] = {
    "nested": ("SELECT 1 WHERE " + "(" * 2000 + "1" + ")" * 2000,),
    "deep": ("SELECT 1 WHERE 1" + " OR 1" * 1200,),
    "variables": (f"SELECT id FROM jobs WHERE id IN ({','.join('?' * 300_000)})", *["a"] * 300_000),
    "sum": ("SELECT sum(number) FROM jobs",),
    "pattern": ("SELECT id FROM jobs WHERE id LIKE ?", "%a" * 60_000),
    "terms": ("SELECT 1 UNION " * 600 + "SELECT 1",),
    "syntax": ("SELECT FROM",),
    "path": ("SELECT json_extract('{}', ?)", "$["),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_that_is_refused_is_no_damage(name: str) -> None:
    error = refused(*QUESTIONS[name])
    assert damage_of(error) is None, str(error)


@pytest.mark.parametrize("question", ["SELECT gone FROM jobs", "SELECT 1 FROM gone", "SELECT json('{')"])
def test_what_the_file_lacks_is_damage(question: str) -> None:
    error = refused(question)
    assert str(error) in str(damage_of(error))
