"""How tables look at a terminal of 80 and of 120 columns, from answers of a gateway; and of hostile ones."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from switchyard.services.cli.commands import control, dead, jobs, schedules, usage
from switchyard.services.cli.commands.overview import files, kinds
from switchyard.services.cli.commands.workflows import group as workflows
from switchyard.services.cli.output import FIELDS, rendered
from switchyard.services.cli.shown.cells import age, size
from switchyard.services.cli.shown.text import columns_of, cut, may_colour

HERE = Path(__file__).parent
NOW = datetime(2026, 11, 30, 4, 40, tzinfo=UTC)
OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
HOSTILE = (
    "\x1b]0;owned\x07\x1b[2J\x9b31mred", "two\nlines\r\tand a tab", "\u202egpj.exe\u2066\u200f", "x" * 10_000,
    "資料報告書のとても長い名前" * 9, "e\u0301\u0300" * 50, "שלום עולם", "👩‍👩‍👧‍👦" * 40, "",
)  # fmt: skip


def answer(name: str) -> Any:
    return orjson.loads((HERE / "answers" / f"{name}.json").read_bytes())


def tables() -> dict[str, tuple[tuple[str, ...], list[dict[str, Any]]]]:
    """What is shown of each answer: its columns and rows."""
    died = [{**(job["error"] or {}), **job} for job in answer("dead_list")["dead_letters"]]
    working = answer("workers")["workers"]
    working = [{**one, "connectors": control.in_short(one["connectors"])} for one in working]
    shown = [{"field": field, "value": value} for field, value in answer("get").items()]
    return {
        "list": (jobs.COLUMNS, answer("list")["jobs"]),
        "get": (FIELDS, shown),
        "history": (jobs.EVENT_COLUMNS, [{**one, "details": ""} for one in answer("history")]),
        "dead list": (dead.COLUMNS, died),
        "files": (files.COLUMNS, answer("files")["files"]),
        "queues": (usage.QUEUE_COLUMNS, answer("queues")["queues"]),
        "kinds": (kinds.COLUMNS, answer("kinds")["kinds"]),
        "workers": (control.WORKER_COLUMNS, working),
        "schedule list": (schedules.COLUMNS, schedules.rows_of(answer("schedule_list"))),
        "workflows list": (workflows.COLUMNS, answer("workflows_list")["workflows"]),
    }  # fmt: skip


def page(width: int) -> str:
    """All tables, as a terminal of so many columns shows them."""
    parts = []
    for name, (columns, rows) in tables().items():
        parts += [f"$ switchyard {name}", *rendered(columns, rows, width=width, at=NOW), ""]
    return "\n".join(parts)


@pytest.mark.parametrize("width", [80, 120])
def test_tables_look_as_they_did(width: int) -> None:
    wanted = (HERE / "answers" / f"at_{width}_columns.txt").read_text(encoding="utf-8")
    assert page(width) == wanted
    for line in wanted.splitlines():
        assert columns_of(line) <= width, line


@pytest.mark.parametrize("width", [1, 20, 40, 80, 120, 400])
def test_a_row_is_a_line_whatever_others_wrote_and_an_id_is_whole(width: int) -> None:
    for name, (columns, rows) in tables().items():
        if columns == FIELDS:
            continue
        evil = [dict.fromkeys(columns, text) for text in HOSTILE]
        found = rendered(columns, [*rows, *evil], width=width, at=NOW, colours=False)
        assert len(found) == 1 + len(rows) + len(HOSTILE), name
        for line in found:
            assert OBEYED.search(line) is None, (name, line)
        for row, line in zip(rows, found[1:], strict=False):
            if width >= 80 or len(str(row.get("id"))) == 36:
                assert str(row.get("id", row.get("kind", ""))) in line, name
        lines = rendered(columns, evil, width=width, at=NOW)
        assert all(columns_of(line) <= width for line in lines), name


def test_what_is_piped_has_every_value_whole_and_no_colour() -> None:
    for columns, rows in tables().values():
        found = "\n".join(rendered(columns, rows, width=None, at=NOW))
        assert "\x1b" not in found
        assert "…" not in found
    two = [{"name": "x" * 10_000, "state": "dead"}, {"name": "y", "state": "dead"}]
    long = rendered(("name", "state"), two, width=None, at=None)
    assert len(long[1]) > 10_000
    assert len(long[2]) < 100  # not as wide as the other


def test_states_have_colours_at_a_terminal_that_has_some(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"id": "1", "state": "dead"}, {"id": "2", "state": "unheard-of"}]
    assert rendered(("id", "state"), rows, width=80, at=NOW, colours=True) == [
        "\x1b[1mid\x1b[0m  \x1b[1mstate\x1b[0m", " 1  \x1b[31mdead\x1b[0m", " 2  unheard-of",
    ]  # fmt: skip
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    some = {"TERM": "xterm", "NO_COLOR": ""}
    for said, wanted in ((some, True), (some | {"NO_COLOR": "1"}, False), (some | {"TERM": "dumb"}, False)):
        for name, value in said.items():
            monkeypatch.setenv(name, value)
        assert may_colour(terminal) is wanted, said
    assert not may_colour(io.StringIO())


def test_times_are_shown_as_ages_and_bytes_in_units() -> None:
    ages = {
        "2026-11-30T04:39:57.5Z": "2s", "2026-11-30T04:30:00Z": "10m", "2026-11-29T04:40:00Z": "1d",
        "2026-11-30T07:40:00Z": "in 3h", "2026-11-30T04:40:00": "0s", "no time": "no time", "\x1b": "\\x1b",
    }  # fmt: skip
    assert {at: age(at, NOW) for at in ages} == ages
    sizes = {0: "0 B", 999: "999 B", 1024: "1.0 KiB", 2**30: "1.0 GiB", 3 * 2**40: "3.0 TiB"}
    assert {number: size(number) for number in sizes} == sizes
    assert (cut("資料報告", 5), cut("abc", 3), cut("abcd", 3), cut("abc", 0)) == ("資料…", "abc", "ab…", "")
