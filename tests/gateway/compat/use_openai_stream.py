"""What users of OpenAI's Python client do with a stream: they have its first words before its last."""

from __future__ import annotations

import sys

import openai  # type: ignore[import-not-found]

url, token = sys.argv[1:]
client = openai.OpenAI(base_url=f"{url}/openai/v1", api_key=token)
stream = client.chat.completions.create(
    model="m1", messages=[{"role": "user", "content": "hi"}], stream=True,
    stream_options={"include_usage": True},
)  # fmt: skip
text, usage = "", None
try:
    for part in stream:
        if not text and part.choices:
            sys.stdout.write("first\n")
            sys.stdout.flush()
        text += "".join(choice.delta.content or "" for choice in part.choices)
        usage = part.usage or usage
    sys.stdout.write(f"{len(text)} {usage.total_tokens if usage else None} {text[-11:]}\n")
except openai.APIError as error:
    sys.stdout.write(f"{type(error).__name__} {error.code} {bool(text)}\n")
