"""What users of RunPod's Python client do, with another base URL and key; run where that is installed."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

url, token, kind = sys.argv[1:]
os.environ["RUNPOD_ENDPOINT_BASE_URL"] = f"{url}/compat/runpod/v2"

import requests  # noqa: E402
import runpod  # type: ignore[import-not-found]  # noqa: E402
from runpod.endpoint import asyncio as later  # type: ignore[import-not-found]  # noqa: E402
from runpod.http_client import AsyncClientSession  # type: ignore[import-not-found]  # noqa: E402

runpod.api_key = token
endpoint = runpod.Endpoint(kind)


def check(what: str, found: Any, wanted: Any) -> None:
    if found != wanted:
        raise SystemExit(f"{what}: {found!r}, not {wanted!r}")


check("run_sync", endpoint.run_sync({"n": 1}), {"n": 1})
check("run_sync with input", endpoint.run_sync({"input": {"n": 2}}), {"n": 2})
check("what fails", endpoint.run_sync({"mode": "fail"}), None)
job = endpoint.run({"mode": "lines", "lines": 1})
check("output", job.output(timeout=60), ["one\ntwo", {"three": 3}])
check("status", job.status(), "COMPLETED")
check("stream", list(endpoint.run({"mode": "lines", "lines": 1}).stream()), ["one\ntwo", {"three": 3}])
held = endpoint.run({"mode": "hold"})
check("cancel", held.cancel()["id"], held.job_id)
check("cancelled", held.output(timeout=60), None)
check("its status", held.status(), "CANCELLED")
check("health", set(endpoint.health()), {"jobs", "workers"})
check("purge", endpoint.purge_queue()["status"], "completed")
try:
    runpod.Endpoint(kind, api_key="nonsense").run({"n": 1})
except RuntimeError as error:
    check("wrong key", "401" in str(error), True)
else:
    raise SystemExit("a wrong key was taken")
try:
    endpoint.run({"input": {"n": 1}, "webhook": "https://example.com"})
except requests.HTTPError as error:
    refusal = error.response
    check("webhook", refusal is not None and refusal.json()["field"], "webhook")
else:
    raise SystemExit("a webhook was taken")


async def asked_later() -> None:
    async with AsyncClientSession() as session:
        one = later.Endpoint(kind, session)
        made = await one.run({"n": 3})
        check("async output", await made.output(timeout=60), {"n": 3})
        streamed = await one.run({"n": 4})
        check("async stream", [part async for part in streamed.stream()], [{"n": 4}])
        check("async health", set(await one.health()), {"jobs", "workers"})
        held = await one.run({"mode": "hold"})
        check("async cancel", (await held.cancel())["id"], held.job_id)


asyncio.run(asked_later())
print(json.dumps("done"))  # noqa: T201 - what the test reads
