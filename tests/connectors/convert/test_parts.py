"""Long documents: an attempt that plans, its parts, and the attempt that joins them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from switchyard.events.requirements.matching import matches
from switchyard.events.requirements.requirement import canonical
from switchyard.services.connectors.convert import engine, parts
from switchyard.services.connectors.convert.connector import ConvertConnector
from switchyard.services.connectors.convert.payload import ConvertPayload
from switchyard.services.connectors.convert.section import ConvertSection
from switchyard.services.connectors.protocol import Attempt, FatalError, Outcome
from switchyard.services.documents.trail import CRASHED
from tests.connectors.attempts import LocalAttempt
from tests.connectors.convert import crashing
from tests.documents.pdf.test_parts import SENTENCE, book

PAGES = 6


@dataclass
class Ended:
    """How a part ended."""

    status: str
    result: Any = None
    artifacts: tuple[dict[str, Any], ...] = ()
    error: dict[str, Any] | None = None


@dataclass
class Part:
    name: str
    payload: dict[str, Any]
    requires: dict[str, Any]
    ended: Ended = field(default_factory=lambda: Ended("cancelled"))

    async def outcome(self) -> Ended:
        return self.ended


class InParts:
    """An attempt that may end in parts."""

    def __init__(self, local: LocalAttempt, joined: list[Part] | None = None) -> None:
        self.local = local
        self.parts = joined or []
        self.joins = joined is not None
        self.spawned: list[Part] = []
        self.policy = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.local, name)

    async def spawn(self, kind: str, payload: dict[str, Any], *, name: str, requires: dict[str, Any]) -> str:
        assert kind == "convert"
        self.spawned.append(Part(name, payload, requires))
        return name

    def join(self, policy: str) -> Outcome:
        self.policy = policy
        return Outcome()


@pytest.fixture
async def connector() -> AsyncIterator[ConvertConnector]:
    section = ConvertSection(kind="convert", id="convert", slots=1, split_over=PAGES - 1, part_pages=2)
    connector = ConvertConnector(slots=1, section=section)
    yield connector
    await connector.close()


async def run(connector: ConvertConnector, attempt: object) -> Outcome:
    return await connector.run(cast("Attempt", attempt))


async def test_a_long_document_is_read_by_its_parts_and_joined(
    connector: ConvertConnector, tmp_path: Path
) -> None:
    local = LocalAttempt(tmp_path)
    payload = {"file": local.offer(book(tmp_path, PAGES)), "formats": ["markdown", "json"], "ocr": "auto"}
    local.payload = payload | {"parts": False}
    whole = await run(connector, InParts(local))

    planning = InParts(LocalAttempt(tmp_path, payload, number=2, files=local.files))
    assert await run(connector, planning) == Outcome()  # nothing to bill
    assert planning.policy == "collect"
    assert [part.name for part in planning.spawned] == ["0-2", "2-2", "4-2"]

    for number, part in enumerate(planning.spawned, start=3):
        assert ConvertPayload.model_validate(part.payload).engine == "local"
        assert matches(canonical(part.requires), connector.capabilities())
        reading = LocalAttempt(tmp_path, part.payload, number=number, files=local.files)
        outcome = await run(connector, InParts(reading))
        assert outcome.usage == {}
        path = tmp_path / f"stored-{number}"
        path.write_bytes(reading.saved["pages.bin"])
        stored = {**outcome.artifacts[0], "file": local.offer(path)}
        part.ended = Ended("succeeded", outcome.result, (stored,))

    joining = InParts(LocalAttempt(tmp_path, payload, number=9, files=local.files), planning.spawned)
    joined = await run(connector, joining)
    assert joined.result["markdown"] == whole.result["markdown"]
    assert joining.local.saved == local.saved
    assert joined.usage == whole.usage == {"pages": PAGES}
    ignored = dict.fromkeys(("json",))
    assert joined.result | ignored == whole.result | ignored
    fractions = [report["fraction"] for report in joining.local.reports]
    assert fractions == sorted(fractions)

    planning.spawned[1].ended = Ended("dead", error={"code": "poison", "message": "the worker was lost"})
    joining = InParts(LocalAttempt(tmp_path, payload, number=10, files=local.files), planning.spawned)
    marked = (await run(connector, joining)).result
    assert marked["pages"] == PAGES
    assert marked["warnings"] == [f"page {n} could not be read and was left out (poison)" for n in (3, 4)]
    assert marked["markdown"].count(SENTENCE) == 4 * 30

    for code, failed in (("ocr_language_missing", planning.spawned[1:2]), ("poison", planning.spawned)):
        for each in failed:
            each.ended = Ended("dead", error={"code": code, "message": "for the test"})
        joining = InParts(LocalAttempt(tmp_path, payload, number=11, files=local.files), planning.spawned)
        with pytest.raises(FatalError) as raised:
            await run(connector, joining)
        assert raised.value.code == code


async def test_a_page_that_makes_its_reader_crash_is_marked_and_the_others_stand(
    connector: ConvertConnector, tmp_path: Path
) -> None:
    attempt = LocalAttempt(tmp_path)
    arguments = {
        "source": str(book(tmp_path, PAGES)), "directory": str(attempt.scratch), "name": "book.pdf",
        "media_type": "", "ocr": "never", "languages": ["eng"], "formats": ["markdown"],
        "page_breaks": True, "max_pages": PAGES,
    }  # fmt: skip
    call = connector._isolated(attempt)
    said = await parts.read(call, f"{crashing.__name__}:convert", arguments, lambda _: None)
    assert said["warnings"] == [f"page {number + 1} {CRASHED}" for number in crashing.CRASHES]
    made = (attempt.scratch / "document.md").read_text()
    assert made.count(SENTENCE) == (PAGES - len(crashing.CRASHES)) * 30
    files = []
    for number, first in enumerate(range(0, PAGES, 2), start=2):
        reading = LocalAttempt(tmp_path, number=number)
        part = arguments | {"first": first, "count": 2, "total": PAGES, "directory": str(reading.scratch)}
        await parts.read(connector._isolated(reading), f"{crashing.__name__}:read_part", part, lambda _: None)
        files.append(str(reading.scratch / "pages.bin"))
    joining = LocalAttempt(tmp_path, number=9)
    joined = arguments | {"directory": str(joining.scratch), "total": PAGES, "parts": files, "missing": {}}
    split = await parts.read(connector._isolated(joining), f"{engine.__name__}:join", joined, lambda _: None)
    assert split == said
    assert (joining.scratch / "document.md").read_text() == made


def test_who_asks_for_parts_gets_them(tmp_path: Path) -> None:
    attempt = cast("Attempt", InParts(LocalAttempt(tmp_path)))
    payload = {"file": "a"}
    for asked, over, expected in (
        (None, 40, 40), (None, 0, None), (False, 40, None), (True, 0, 20), (7, 40, 7), (7, 0, 7),
    ):  # fmt: skip
        given = ConvertPayload.model_validate(payload | {"parts": asked})
        assert parts.split_over(attempt, given, pages=20, over=over) == expected
