"""What a part says that ends because its disk is full."""

from __future__ import annotations

import sqlite3
from typing import NoReturn

import pytest

from switchyard.services.cli.guard import guarded


def fill() -> NoReturn:
    """Write to a database that may not grow, inside a task group as the parts are."""
    database = sqlite3.connect(":memory:")
    database.execute("PRAGMA max_page_count = 1")
    try:
        database.execute("CREATE TABLE large (line)")
    except sqlite3.OperationalError as error:
        raise ExceptionGroup("parts", [ExceptionGroup("projector", [error])]) from None
    finally:
        database.close()
    raise AssertionError("the database has grown")


def misspell() -> NoReturn:
    """A bug of ours."""
    database = sqlite3.connect(":memory:")
    try:
        database.execute("SELEKT 1")
    except sqlite3.OperationalError as error:
        raise ExceptionGroup("parts", [error]) from None
    finally:
        database.close()
    raise AssertionError("SQLite understands everything")


def test_a_full_disk_is_one_sentence_that_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        guarded(fill, debug=False)
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said == "switchyard: the disk of the data directory is full: free some space and start again\n"


def test_another_error_of_the_database_keeps_its_traceback() -> None:
    with pytest.raises(ExceptionGroup):
        guarded(misspell, debug=False)
