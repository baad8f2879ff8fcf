"""What users of Replicate's Python client do, with another base URL and key; run where that is installed."""

from __future__ import annotations

import asyncio
import io
import json
import sys
import threading
from typing import Any

import replicate  # type: ignore[import-not-found]
from replicate.exceptions import ModelError, ReplicateError  # type: ignore[import-not-found]
from replicate.helpers import FileOutput  # type: ignore[import-not-found]

url, token, kind = sys.argv[1:]
client = replicate.Client(api_token=token, base_url=f"{url}/compat/replicate")
model = f"acme/{kind}"


def check(what: str, found: Any, wanted: Any) -> None:
    if found != wanted:
        raise SystemExit(f"{what}: {found!r}, not {wanted!r}")


def refused(call: Any, **params: Any) -> ReplicateError:
    try:
        call(**params)
    except ReplicateError as error:
        return error
    raise SystemExit(f"{params} was not refused")


check("run", client.run(model, input={"n": 1}), {"n": 1})
check("run without waiting", client.run(model, input={"n": 1}, wait=False), {"n": 1})
check("run of a version", client.run(f"{model}:{kind}", input={"n": 2}), {"n": 2})


def release() -> None:
    """Let the job that is held end, once the wait for it is over."""
    client.predictions.create(version=kind, input={"mode": "release"})


timer = threading.Timer(1.5, release)
timer.start()
check("run that outlasts its wait", client.run(model, input={"mode": "hold"}, wait=1), "released")
timer.join()

made = client.predictions.create(version=kind, input={"mode": "lines", "lines": 3})
made.wait()
check("status", made.status, "succeeded")
check("logs", made.logs, "line 0\nline 1\nline 2")
check("output", made.output, ["one\ntwo", {"three": 3}])
check("metrics", made.metrics["predict_time"] >= 0, True)
check("reading", client.predictions.get(made.id).output, made.output)
check("model", client.models.predictions.create(model=model, input={}).model, model)
deployment = client.deployments.get(model)
check("deployment", deployment.predictions.create(input={"d": 1}, wait=20).output, {"d": 1})
check("account", client.accounts.current().type, "organization")
check("model's version", client.models.get(model).latest_version.id, kind)

events = list(client.stream(model, input={"mode": "lines", "lines": 2}))
check("stream", [event.event.value for event in events], ["logs", "logs", "output", "output", "done"])
check("streamed output", "".join(map(str, events)), 'one\ntwo{"three":3}')
try:
    list(client.stream(model, input={"mode": "fail"}))
except RuntimeError as error:
    check("stream of what fails", str(error), "it broke")
else:
    raise SystemExit("a stream of what fails ended well")

try:
    client.run(model, input={"mode": "fail"})
except ModelError as error:
    check("failure", str(error), "it broke")
else:
    raise SystemExit("what fails ended well")

held = client.predictions.create(version=kind, input={"mode": "hold"})
held.cancel()
held.wait()
check("cancel", held.status, "canceled")

file = io.BytesIO(b"input bytes")
check("file input", client.run(model, input={"mode": "read", "file": file}), "input bytes")
encoded = client.run(model, input={"f": io.BytesIO(b"x")}, file_encoding_strategy="base64")
# Read back as a file of the client, which is what it makes of such an address.
check("file in the input", encoded["f"].read(), b"x")
saved = client.run(model, input={"mode": "save"})
check("file output", FileOutput(str(saved), client).read(), b"the bytes of a file")
stored = client.files.create(io.BytesIO(b"more"), filename="more.txt")
check("file", (client.files.get(stored.id).name, client.files.get(stored.id).size), ("more.txt", 4))
check("file's removal", client.files.delete(stored.id), True)
check("list of files", all(one.id for one in client.files.list()), True)

pages = list(replicate.pagination.paginate(client.predictions.list))
check("list", made.id in {one.id for page in pages for one in page.results}, True)

check("unknown id", refused(client.predictions.get, id="none").status, 404)
hook = refused(client.predictions.create, version=kind, input={}, webhook="https://example.com")
check("webhook", (hook.status, "webhook" in (hook.detail or "")), (422, True))
stranger = replicate.Client(api_token="nonsense", base_url=f"{url}/compat/replicate")
check("wrong key", refused(stranger.predictions.get, id=made.id).status, 401)


async def later() -> None:
    check("async run", await client.async_run(model, input={"n": 3}), {"n": 3})
    stream = await client.async_stream(model, input={"mode": "lines", "lines": 1})
    names = [event.event.value async for event in stream]
    check("async stream", names, ["logs", "output", "output", "done"])


asyncio.run(later())
print(json.dumps("done"))  # noqa: T201 - what the test reads
