"""Which engine converts a document, and what becomes of one that fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from switchyard.events.requirements.matching import canonical, explain, matches
from switchyard.services.connectors.convert.engines.breaker import Breaker
from switchyard.services.connectors.convert.payload import ConvertPayload, EngineName
from switchyard.services.connectors.derived.convert import NAMES, needs_of
from switchyard.services.connectors.protocol import BusyError, FatalError, RetryableError
from switchyard.services.connectors.registry import in_words, instance, payload_model
from switchyard.services.connectors.sections import ConnectorsError
from switchyard.services.settings.secrets import masked
from tests.connectors.convert.bench import Bench, pdf
from tests.connectors.convert.double.mistral import KEY
from tests.connectors.convert.double.serving import answering
from tests.documents.corpus import DOCUMENTS

OCR = "/v1/ocr"
DOWN = answering({"message": "down"}, 500)


# --- The order


async def test_an_engine_that_fails_gives_way_to_the_next(bench: Bench, tmp_path: Path) -> None:
    bench.mistral.instead(OCR, *[DOWN] * 3)
    result = (
        await bench.run(bench.converter("mistral", "docling", "local"), pdf(tmp_path / "a.pdf", 3))
    ).result
    assert result["engine"] == "docling"
    assert result["warnings"] == ["not used: mistral: it answers 500: down"]


async def test_an_engine_that_nobody_serves_costs_no_attempt(bench: Bench, tmp_path: Path) -> None:
    converter = bench.converter(mistral={"url": "http://127.0.0.1:9"})
    with pytest.raises(BusyError) as busy:
        await bench.run(converter, pdf(tmp_path / "a.pdf", 1))
    assert busy.value.code == "engine_away"
    assert "127.0.0.1" not in busy.value.message


async def test_a_limit_gives_way_to_the_next(bench: Bench, tmp_path: Path) -> None:
    bench.mistral.instead(OCR, answering({}, 429))
    result = (await bench.run(bench.converter("mistral", "docling"), pdf(tmp_path / "a.pdf", 3))).result
    assert result["engine"] == "docling"


async def test_an_engine_that_a_job_names_is_the_only_one(bench: Bench, tmp_path: Path) -> None:
    converter = bench.converter("mistral", "docling", "local")
    source = pdf(tmp_path / "a.pdf", 3)
    for name in ("local", "docling", "mistral"):
        assert (await bench.run(converter, source, engine=name)).result["engine"] == name
    bench.mistral.instead(OCR, *[DOWN] * 3)
    with pytest.raises(RetryableError) as failed:
        await bench.run(converter, source, engine="mistral")
    assert failed.value.code == "engine_failed"
    with pytest.raises(BusyError) as busy:
        await bench.run(bench.converter("local"), source, engine="mistral")
    assert "no engine mistral" in busy.value.message


async def test_what_an_engine_does_not_do_is_done_by_one_that_does(bench: Bench, tmp_path: Path) -> None:
    converter = bench.converter("mistral", "docling", "local")
    source = pdf(tmp_path / "a.pdf", 3)
    for payload, name in (
        ({"formats": ["markdown", "json"]}, "local"),
        ({"formats": ["text"]}, "docling"),
        ({"ocr": "never"}, "docling"),
    ):
        assert (await bench.run(converter, source, **payload)).result["engine"] == name
    assert (await bench.run(converter, DOCUMENTS / "example_03.html")).result["engine"] == "docling"
    with pytest.raises(FatalError) as refused:
        await bench.run(bench.converter("mistral"), source, formats=["json"])
    assert refused.value.code == "unsupported_format"


async def test_progress_never_falls_when_another_engine_begins(bench: Bench, tmp_path: Path) -> None:
    bench.mistral.instead(OCR, *[DOWN] * 6)
    converter = bench.converter("mistral", "local", mistral={"max_pages": 1})
    bench.mistral.faults[OCR].appendleft(bench.mistral._ocr)
    attempt = bench.attempt(pdf(tmp_path / "a.pdf", 3))
    assert (await converter.run(attempt)).result["engine"] == "local"
    fractions = [report["fraction"] for report in attempt.reports]
    assert fractions == sorted(fractions)


# --- The breaker


async def test_an_engine_is_left_alone_after_failures_and_asked_again_later(
    bench: Bench, tmp_path: Path
) -> None:
    converter = bench.converter("mistral", "local", engine_failures=2, engine_pause_s=3_600)
    source = pdf(tmp_path / "a.pdf", 1)
    bench.mistral.instead(OCR, *[DOWN] * 6)
    for _ in range(3):
        assert (await bench.run(converter, source)).result["engine"] == "local"
    assert len(bench.mistral.asked) == 6
    assert converter.capabilities()["convert"]["engines"] == ["local"]
    assert converter.slots == 2
    assert bench.changes == 1
    with pytest.raises(BusyError):
        await bench.run(converter, source, engine="mistral")
    assert len(bench.mistral.asked) == 6


async def test_what_an_engine_says_of_a_document_reaches_no_other_job(bench: Bench, tmp_path: Path) -> None:
    converter = bench.converter("mistral", "local", engine_failures=1)
    bench.mistral.instead(OCR, *[answering({"message": "the contract of Smith"}, 500)] * 3)
    source = pdf(tmp_path / "a.pdf", 1)
    first, second = [(await bench.run(converter, source)).result["warnings"] for _ in range(2)]
    assert "the contract of Smith" in first[-1]
    assert second[-1] == "not used: mistral: it answers 500"
    assert "Smith" not in repr(converter.capabilities())


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_one_call_at_a_time_decides_after_a_pause() -> None:
    clock, changes = Clock(), []
    breaker = Breaker(failures=2, pause_s=10, changed=lambda: changes.append(1), now_s=clock)
    breaker.failed("a")
    assert breaker.allows()
    breaker.failed("b")
    assert (breaker.is_open, breaker.allows(), breaker.why, len(changes)) == (True, False, "b", 1)
    clock.now_s += 10
    assert not breaker.is_open
    with breaker.trial():
        assert not breaker.allows()
    with breaker.trial():
        breaker.failed("c")
    for pause_s in (20, 40, 80, 160, 160):
        clock.now_s += pause_s - 1
        assert breaker.is_open
        clock.now_s += 1
        assert breaker.allows()
        with breaker.trial():
            breaker.failed("d")
    clock.now_s += 1_000
    with breaker.trial():
        breaker.succeeded()
    with breaker.trial():
        assert breaker.allows()
    breaker.failed("e")
    assert breaker.allows()


def test_what_an_engine_asks_for_is_no_failure() -> None:
    clock = Clock()
    breaker = Breaker(failures=1, pause_s=10, changed=lambda: None, now_s=clock)
    breaker.hold("slow down", 5)
    assert breaker.is_open
    breaker.hold("slow down", 1)
    clock.now_s += 5
    with breaker.trial():
        assert breaker.allows()


# --- Payloads and needs


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"engine": "tesseract"}, "engine"),
        ({"engine": 1}, "engine"),
        ({"engine": "mistral", "formats": ["json", "text"]}, "makes no json and no text"),
        ({"engine": "docling", "formats": ["json"]}, "makes no json"),
        ({"engine": "mistral", "ocr": "never"}, "ocr says never"),
    ],
)
def test_a_payload_that_no_engine_does_is_refused_by_its_field(said: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words) as refused:
        ConvertPayload.model_validate({"file": "x", **said})
    assert refused.value.errors()[0]["loc"] == ("engine",)  # type: ignore[attr-defined]


def test_a_job_that_names_an_engine_waits_for_a_worker_that_has_it() -> None:
    assert payload_model("convert") is ConvertPayload
    assert set(EngineName.__args__) == NAMES  # type: ignore[attr-defined]
    (part,) = needs_of({"engine": "mistral"}).requires
    needed = canonical(part, field="payload")
    assert matches(needed, {"convert": {"engines": ["local", "mistral"]}})
    lacking: tuple[dict[str, Any], ...] = ({"convert": {"engines": ["local"]}}, {"convert": {}}, {})
    for has in lacking:
        (clause,) = explain(needed, has)
        assert in_words("convert", clause).message == "it lacks the engine mistral"
    plain: tuple[dict[str, Any], ...] = ({}, {"engine": None}, {"engine": "x"}, {"engine": ["mistral"]})
    for payload in plain:
        assert needs_of(payload).is_empty


# --- Settings


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"engines": ["mistral"]}, "mistral needs mistral.api_key, mistral.key_file or MISTRAL_API_KEY"),
        ({"engines": ["docling"]}, "docling needs docling.url"),
        ({"engines": ["docling"], "docling": {}}, "docling.url: Field required"),
        ({"engines": []}, "engines"),
        ({"engines": 5}, "engines"),
        ({"engines": ["other"]}, "engines.0"),
        ({"engines": ["local", "local"]}, "twice"),
        ({"engines": ["mistral"], "mistral": {"api_key": "a", "key_file": "b"}}, "one of them is enough"),
        ({"engines": ["mistral"], "mistral": {"key_file": "/nowhere/key"}}, "cannot be read as a key"),
        ({"engines": ["mistral"], "mistral": {"api_key": "a\nb"}}, "characters that no key has"),
        ({"engines": ["mistral"], "mistral": {"url": "https://u:p@x", "api_key": "a"}}, "without user"),
        ({"engines": ["mistral"], "mistral": {"url": "ftp://x", "api_key": "a"}}, "expected an address"),
    ],
)
def test_a_section_that_cannot_be_used_says_why(
    section: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MISTRAL_API_KEY", raising=False)
    with pytest.raises(ConnectorsError, match=words):
        instance("convert", section, {"slots": 1})


async def test_a_key_comes_from_the_section_a_file_or_the_environment(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = pdf(tmp_path / "a.pdf", 1)
    (tmp_path / "key").write_text(f"{KEY}\n")
    by_file = bench.converter(mistral={"api_key": None, "key_file": str(tmp_path / "key")})
    assert (await bench.run(by_file, source)).result["pages"] == 1
    monkeypatch.setenv("MISTRAL_API_KEY", KEY)
    by_environment = bench.converter(mistral={"api_key": None})
    assert (await bench.run(by_environment, source)).result["pages"] == 1


def test_keys_are_not_shown() -> None:
    sections = {
        "convert": {"engines": ["mistral"], "mistral": {"api_key": "k-1"}, "docling": {"api_key": "k-2"}}
    }
    assert "k-" not in repr(masked("connectors", sections))
