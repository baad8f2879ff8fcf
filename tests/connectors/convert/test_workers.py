"""Engines under workers: a job that names one waits for it, and a worker that ends gives its work back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from switchyard.events.vocabulary.ids import JobId
from switchyard.services.broker.server.server import NatsServer
from tests.connectors.convert.bench import DEADLINE_S, Bench, pdf
from tests.connectors.convert.double.serving import answering
from tests.gateway.rest import Gateway, gateway
from tests.worker.site import Site, open_site

OCR = "/v1/ocr"


async def stored(api: Gateway, document: Path) -> str:
    data = await asyncio.to_thread(document.read_bytes)
    answer = await api.call("POST", "/v1/files?name=a.pdf", data, Content_Type="application/pdf")
    assert answer.status == 201, answer
    file_id: str = answer.json["id"]
    return file_id


async def result_of(site: Site, api: Gateway, job: str) -> Any:
    assert (await site.final(job)).name == "succeeded"
    return (await api.get(f"/v1/jobs/{job}")).json


async def test_a_job_that_names_an_engine_waits_for_a_worker_that_has_it(
    broker: NatsServer, bench: Bench, tmp_path: Path
) -> None:
    async with (
        open_site(broker.url) as site,
        gateway(broker.url, tmp_path / "gateway") as api,
        site.keeper(),
        site.worker(bench.converter("local"), name="w1"),
    ):
        file = await stored(api, pdf(tmp_path / "a.pdf", 2))
        refused = await api.call(
            "POST", "/v1/jobs", {"kind": "convert", "payload": {"file": file, "engine": "x"}}
        )
        assert refused.status == 422
        assert refused.json["field"] == "payload.engine"
        job = (await api.submit(kind="convert", payload={"file": file, "engine": "mistral"}))["id"]
        async with asyncio.timeout(DEADLINE_S):
            while True:
                said = await api.get(f"/v1/jobs/{job}/explain")
                if "it lacks the engine mistral" in said.raw.decode():
                    break
                await asyncio.sleep(0.05)
        assert bench.mistral.asked == []
        async with site.worker(bench.converter("local", "mistral"), name="w2"):
            done = await result_of(site, api, job)
        assert (done["result"]["engine"], done["usage"]["pages"]) == ("mistral", 2)


@pytest.mark.parametrize("engine", ["mistral", "docling"])
async def test_a_worker_that_drains_in_mid_call_gives_its_work_back(
    broker: NatsServer, bench: Bench, tmp_path: Path, engine: str
) -> None:
    double: Any = getattr(bench, engine)
    double.pages = 2
    double.instead(OCR if engine == "mistral" else "/v1/convert/file/async", double.hold)
    async with (
        open_site(broker.url) as site,
        gateway(broker.url, tmp_path / "gateway") as api,
        site.keeper(),
    ):
        file = await stored(api, pdf(tmp_path / "a.pdf", 2))
        job = (await api.submit(kind="convert", payload={"file": file, "engine": engine}))["id"]
        async with site.worker(bench.converter(engine), name="w1"), asyncio.timeout(DEADLINE_S):
            await double.held.wait()
        async with site.worker(bench.converter(engine), name="w2"):
            assert (await result_of(site, api, job))["result"]["engine"] == engine
        assert (await site.store.load(JobId(job))).failures == 0
        assert bench.mistral.files == {}


async def test_a_cancelled_job_ends_in_mid_call(broker: NatsServer, bench: Bench, tmp_path: Path) -> None:
    bench.mistral.instead(OCR, bench.mistral.hold)
    async with (
        open_site(broker.url) as site,
        gateway(broker.url, tmp_path / "gateway") as api,
        site.keeper(),
        site.worker(bench.converter(mistral={"inline_bytes": 0}), name="w1"),
        asyncio.timeout(DEADLINE_S),
    ):
        file = await stored(api, pdf(tmp_path / "a.pdf", 2))
        job = (await api.submit(kind="convert", payload={"file": file}))["id"]
        await bench.mistral.held.wait()
        assert (await api.call("POST", f"/v1/jobs/{job}/cancel", {})).status in (200, 202)
        assert (await site.final(job)).name == "cancelled"
        while bench.mistral.files:
            await asyncio.sleep(0.01)


async def test_a_limit_costs_a_job_no_attempt(broker: NatsServer, bench: Bench, tmp_path: Path) -> None:
    bench.mistral.instead(OCR, answering({}, 429, {"Retry-After": "1"}))
    async with (
        open_site(broker.url) as site,
        gateway(broker.url, tmp_path / "gateway") as api,
        site.keeper(),
        site.worker(bench.converter(), name="w1"),
    ):
        file = await stored(api, pdf(tmp_path / "a.pdf", 2))
        job = (await api.submit(kind="convert", payload={"file": file, "max_pages": 5}))["id"]
        assert (await result_of(site, api, job))["result"]["pages"] == 2
        assert (await site.store.load(JobId(job))).failures == 0
        assert len(bench.mistral.asked) == 2
