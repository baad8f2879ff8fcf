"""Results of parents in the payload of a job that waited for them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from switchyard.events.events import Dead, Succeeded
from switchyard.events.vocabulary.causes import DependencyFailure
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.connectors.convert.connector import ConvertConnector
from switchyard.services.connectors.protocol import Attempt, FatalError
from tests.worker.site import Site, TestConnector, open_site

PAGE = b"<h1>Kept</h1><p>for the next job</p>"
LARGE = {"text": "x" * 70_000}


@pytest.fixture
async def site(broker: NatsServer) -> AsyncIterator[Site]:
    async with open_site(broker.url) as site:
        yield site


def ref(job_id: str, **fields: Any) -> dict[str, Any]:
    return {"$result": {"job": job_id, **fields}}


async def as_asked(attempt: Attempt) -> Any:
    """Make something large, die, read the beginning of a file, or give `n` back."""
    match attempt.payload["n"]:
        case "large":
            return LARGE
        case "die":
            raise FatalError("asked", "this job was asked to die")
        case {"read": file_id}:
            target = attempt.scratch / "copy"
            await attempt.fetch(file_id, target)
            return target.read_text()[:100]
        case other:
            return other


async def outcome(site: Site, n: Any, *parents: str, **fields: Any) -> Any:
    job_id = await site.submit(n, depends_on=parents, **fields)
    return (await site.final(job_id)).event


async def result(site: Site, n: Any, *parents: str) -> Any:
    event = await outcome(site, n, *parents)
    assert isinstance(event, Succeeded), event
    return event.result


async def test_a_job_is_given_the_results_of_its_parents(site: Site) -> None:
    async with site.keeper(), site.worker(TestConnector(as_asked), slots=2):
        first, second = await site.submit({"a": [1, {"b": "deep"}]}), await site.submit("plain")
        n = {"all": ref(first), "parts": [ref(first, path="a.1.b"), ref(second)], "own": 5}
        assert await result(site, n, first, second) == {
            "all": {"a": [1, {"b": "deep"}]},
            "parts": ["deep", "plain"],
            "own": 5,
        }


async def test_a_large_result_is_given_as_the_file_that_it_is(site: Site) -> None:
    async with site.keeper(), site.worker(TestConnector(as_asked)):
        parent = await site.submit("large")
        given = await result(site, ref(parent), parent)
        assert (given["name"], given["type"]) == ("result.json", "application/json")
        read = await result(site, {"read": ref(parent, artifact="result.json")}, parent)
        assert read == orjson.dumps(LARGE).decode()[:100]
        event = await outcome(site, ref(parent, path="text"), parent)
    assert isinstance(event, Dead)
    assert "is the file result.json" in event.error.message


async def test_an_artifact_of_a_parent_is_the_input_file_of_its_child(site: Site) -> None:
    class Saving(TestConnector):
        async def run(self, attempt: Attempt) -> Any:
            made = await super().run(attempt)
            saved = await attempt.save("page.html", PAGE, media_type="text/html")
            return type(made)(made.result, (saved,))

    async with site.keeper(), site.worker(Saving(as_asked), ConvertConnector(slots=1)):
        parent = await site.submit("parent")
        file = ref(parent, artifact="page.html")
        child = await site.submit(kind="convert", payload={"file": file}, depends_on=(parent,))
        event = (await site.final(child)).event
        assert isinstance(event, Succeeded), event
        text = await result(site, {"read": ref(parent, artifact="page.html")}, parent)
    assert text == PAGE.decode()
    assert "Kept" in str(event.result)


@pytest.mark.parametrize("parent_does", ["plain", "die"])
async def test_a_reference_that_leads_nowhere_ends_the_job_unstarted(site: Site, parent_does: str) -> None:
    connector = TestConnector(as_asked)
    async with site.keeper(), site.worker(connector):
        parent = await site.submit(parent_does)
        event = await outcome(
            site, {"x": ref(parent, path="a.b")}, parent, on_dependency_failure=DependencyFailure.RUN
        )
    assert isinstance(event, Dead)
    assert (event.reason, event.error.code) == ("not_retryable", "unresolved_reference")
    why = {"plain": "has no 'a'", "die": "has no result, it is dead"}[parent_does]
    assert event.error.message.startswith("payload.n.x: ")
    assert event.error.message.endswith(why)
    assert connector.started == [parent_does]


async def test_a_job_that_waited_for_nothing_has_its_payload_as_it_is(site: Site) -> None:
    async with site.worker(TestConnector(as_asked)):
        assert await result(site, ref("whatever")) == ref("whatever")
