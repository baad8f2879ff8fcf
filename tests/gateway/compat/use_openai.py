"""What users of OpenAI's Python client do, with another base URL and key; run where that is installed."""

from __future__ import annotations

import asyncio
import io
import json
import sys
import time
from typing import Any

import openai  # type: ignore[import-not-found]

url, token, _ = sys.argv[1:]
BASE = f"{url}/openai/v1"
END = {"completed", "failed", "cancelled", "expired"}
client = openai.OpenAI(base_url=BASE, api_key=token)


def check(what: str, found: Any, wanted: Any) -> None:
    if found != wanted:
        raise SystemExit(f"{what}: {found!r}, not {wanted!r}")


def said(text: str) -> dict[str, Any]:
    return {"model": "m1", "messages": [{"role": "user", "content": text}]}


def line(name: str, text: str, **fields: Any) -> bytes:
    found = {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": said(text)}
    return json.dumps(found | fields).encode() + b"\n"


answer = client.chat.completions.create(**said("hello"))
check("chat", answer.choices[0].message.content, "you said hello")
check("usage", answer.usage.total_tokens, 3)
parts = list(
    client.chat.completions.create(**said("hi"), stream=True, stream_options={"include_usage": True})
)
text = "".join(part.choices[0].delta.content or "" for part in parts if part.choices)
check("stream", text, "you said hi")
check("usage of a stream", parts[-1].usage.total_tokens, 3)
check("embeddings", client.embeddings.create(model="e1", input="x").data[0].embedding, [0.5, -1.0])
try:
    client.chat.completions.create(**said("fail"))
except openai.InternalServerError as error:
    check("what fails", error.code, "broken")
else:
    raise SystemExit("what fails did not")
try:
    list(client.chat.completions.create(**said("fail"), stream=True))
except openai.APIError as error:
    check("what fails in a stream", error.code, "broken")
else:
    raise SystemExit("what fails in a stream did not")
try:
    openai.OpenAI(base_url=BASE, api_key="nonsense").models.list()
except openai.AuthenticationError as error:
    check("wrong key", error.code, "invalid_api_key")
else:
    raise SystemExit("a wrong key was taken")
try:
    client.files.retrieve("nonsense")
except openai.NotFoundError as error:
    check("no file", error.code, "not_found")
else:
    raise SystemExit("there is no such file")
[model.id for model in client.models.list()]

body = line("a", "one") + line("b", "fail") + line("c", "two") + line("d", "x", url="/v1/embeddings") + b"{\n"
file = client.files.create(file=("in.jsonl", io.BytesIO(body)), purpose="batch")
check("file", (file.filename, file.purpose, file.bytes), ("in.jsonl", "batch", len(body)))
check("its bytes", client.files.content(file.id).read(), body)
check("shown", client.files.retrieve(file.id).id, file.id)
batch = client.batches.create(
    input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"a": "b"}
)
deadline = time.monotonic() + 120
while (batch := client.batches.retrieve(batch.id)).status not in END and time.monotonic() < deadline:
    time.sleep(0.1)
check("batch", (batch.status, batch.metadata), ("completed", {"a": "b"}))
check("counts", batch.request_counts.model_dump(), {"total": 5, "completed": 2, "failed": 3})
lines = [json.loads(one) for one in client.files.content(batch.output_file_id).text.splitlines()]
check("lines", [one["custom_id"] for one in lines], ["a", "c"])
check("answers", lines[1]["response"]["body"]["choices"][0]["message"]["content"], "you said two")
faults = [json.loads(one) for one in client.files.content(batch.error_file_id).text.splitlines()]
check("faults", [one["custom_id"] for one in faults], ["b", "d", None])
check("statuses", [one["response"]["status_code"] for one in faults], [500, 400, 400])
check("param", faults[1]["response"]["body"]["error"]["param"], "url")
batches = [
    client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    ).id
    for _ in range(3)
]  # fmt: skip
check("list", [one.id for one in client.batches.list(limit=2)], [*reversed(batches), batch.id])
check("cancel", client.batches.cancel(batches[0]).id, batches[0])
check("delete", client.files.delete(file.id).deleted, True)


async def asked_later() -> None:
    async with openai.AsyncOpenAI(base_url=BASE, api_key=token) as later:
        found = await later.chat.completions.create(**said("later"))
        check("async chat", found.choices[0].message.content, "you said later")


asyncio.run(asked_later())
print(json.dumps("done"))  # noqa: T201 - what the test reads
