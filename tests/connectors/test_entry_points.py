"""Connectors of other distributions: found, refused, and run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from switchyard.services.broker.server.server import NatsServer
from switchyard.services.cli.commands.worker import instances
from switchyard.services.connectors import registry
from switchyard.services.connectors.protocol import RetryableError
from switchyard.services.connectors.sections import ConnectorsError
from switchyard.services.settings import Settings
from switchyard.services.worker.connectors import connectors_of
from tests.connectors.attempts import LocalAttempt
from tests.connectors.conformance import ConnectorConformance, Subject
from tests.connectors.distributions import EXAMPLES, install
from tests.worker.site import open_site

DEFAULTS = {"slots": 3, "memory_bytes": 1}
IMPORT = "from switchyard.connectors import Section\n"
PROGRAM = {"program": "program_connector:Program"}


@pytest.fixture(autouse=True)
def afresh() -> Iterator[None]:
    yield
    registry._offers.cache_clear()


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, tmp_path / "program", "program", PROGRAM)


@pytest.mark.usefixtures("program")
class TestProgram(ConnectorConformance):
    kind_is_known = False

    @pytest.fixture
    def subject(self) -> Subject:
        return Subject(
            make=lambda: registry.instance("shell", {"kind": "program", "command": ["sh"], "slots": 2}, {}),
            work=lambda path: LocalAttempt(path, {"text": "echo hello"}),
            long_work=lambda path: LocalAttempt(path, {"text": "sleep 1000"}),
            bad_payloads=({}, {"text": 1}, {"text": "true", "unknown": 1}),
            failures=(({"text": "exit 3"}, RetryableError, "program_failed"),),
        )


def test_the_example_is_short() -> None:
    assert len((EXAMPLES / "program_connector.py").read_text().splitlines()) < 80


@pytest.mark.usefixtures("program")
async def test_instances_of_another_distribution_run_in_a_worker(broker: NatsServer) -> None:
    sections = {"words": {"kind": "program", "command": ["wc", "-w"]}, "same": {"kind": "program"}}
    settings = Settings.model_validate({"connectors": sections})
    names = instances(None, (), settings)
    assert names == ("program:words", "program:same")
    async with (
        open_site(broker.url, lease_s=6.0) as site,
        site.worker(*connectors_of(names, [], settings), slots=2) as worker,
    ):
        assert [each.id for each in worker._registration.record.instances] == ["words", "same"]
        requires = {"program.name": {"$eq": "wc"}}
        job = await site.submit(kind="program", requires=requires, payload={"text": "one two"})
        done = await site.final(job)
        assert done.event.result["bytes"] < len("one two")  # type: ignore[union-attr]


@pytest.mark.usefixtures("program")
def test_it_runs_beside_the_built_in_ones_where_nothing_is_named() -> None:
    assert "program" in instances(None, (), Settings())
    assert [each.id for each in connectors_of(["program"], [], Settings())] == ["program"]


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("import nowhere_to_be_found", "cannot be loaded"),
        ("raise SystemExit(3)", "cannot be loaded"),
        ("x = 1", "cannot be loaded"),
        ("class Program: kind = 'program'", "no section_model that is a Section"),
        (
            f"{IMPORT}class Program:\n    kind, section_model = 'other', Section\n    make = print\n",
            "has another kind, or no function make",
        ),
        (
            f"{IMPORT}class Program:\n    kind, section_model = 'program', Section\n    make = int\n",
            "TypeError: int",
        ),
    ],
)
def test_one_that_cannot_be_loaded_stops_others_only_where_it_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, why: str
) -> None:
    install(monkeypatch, tmp_path / "bad", "bad", {"program": "bad_connector:Program"}, source=source)
    assert set(instances(None, (), Settings())) == set(registry.CONNECTORS) - registry.NEED_SETTINGS
    said = capsys.readouterr().err
    assert why in said
    assert said.count("\n") == 1
    with pytest.raises(ConnectorsError, match=why):
        instances(None, ("program:a",), Settings())
    assert instances("simulate", (), Settings()) == ("simulate",)


def test_a_kind_of_two_distributions_is_used_of_neither(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(monkeypatch, tmp_path / "one", "one", {"program": "one_connector:Program"})
    install(monkeypatch, tmp_path / "two", "two", {"program": "two_connector:Program"})
    with pytest.raises(ConnectorsError, match="'program' of one and two are not used"):
        registry.connector_type("program")


def test_a_built_in_kind_cannot_be_taken_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(monkeypatch, tmp_path / "evil", "evil", {"simulate": "evil_connector:Program"})
    assert instances("simulate", (), Settings()) == ("simulate",)
    assert "'simulate' of evil is not used: the kind is built in" in capsys.readouterr().err
    assert type(registry.instance("simulate", {}, DEFAULTS)).__name__ == "SimulateConnector"


@pytest.mark.parametrize(
    ("names", "sections", "why"),
    [
        (["nobody"], {}, "there is no connector of kind 'nobody'"),
        (["simulate:a", "simulate:a"], {}, "connector a: the id is given twice"),
        (["simulate:a"], {"a": {"kind": "convert"}}, "its section is of kind 'convert'"),
        (["simulate:a"], {"a": {"slots": 0}}, "connector a: slots"),
        (["simulate:a"], {"a": {"colour": "red"}}, "connector a: colour"),
        (["simulate:A b"], {}, "connector A b: id"),
        (["simulate:"], {"": {"kind": "simulate"}}, "connector : id"),
        (["simulate:a"], {"a": {"id": "b"}}, "its section has another id, 'b'"),
        (["simulate:a"], {"a": {"kind": 3}}, "its section is of kind 3"),
    ],
)
def test_a_section_that_cannot_be_used_is_named(
    names: list[str], sections: dict[str, dict[str, object]], why: str
) -> None:
    with pytest.raises(ConnectorsError, match=why):
        connectors_of(names, [], Settings.model_validate({"connectors": sections}))
