"""Completions, embeddings and models as OpenAI's clients ask for them."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from switchyard.events.errors import NotFoundError
from switchyard.services.gateway.doors.compat import completions
from switchyard.services.gateway.doors.compat.answering import Wording
from switchyard.services.gateway.doors.compat.completions import ChatForm, EmbeddingsForm, known
from switchyard.services.gateway.doors.compat.openai import answers
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.routes import Call
from switchyard.services.intake.batches.forms import OPENAI

NOT_AGAIN: Final = {"x-should-retry": "false"}
"""The clients repeat a 408 or 5xx twice by themselves; that would be another job."""


def _refusal(message: str, code: str) -> answers.RefusalAnswer:
    fault = answers.Fault(message=message, type="server_error", param=None, code=code)
    return answers.RefusalAnswer(error=fault)


WORDS: Final = Wording(OPENAI, _refusal, NOT_AGAIN, null_usage=True)


async def chat(call: Call[ChatForm]) -> web.StreamResponse:
    """`POST /chat/completions`: a completion, whole or as a stream."""
    options = call.body.stream_options
    return await completions.chat(call, WORDS, usage=options is not None and bool(options.include_usage))


async def embeddings(call: Call[EmbeddingsForm]) -> web.StreamResponse:
    """`POST /embeddings`: those of some texts."""
    return await completions.embeddings(call, WORDS)


async def models(call: Call[None]) -> web.Response:
    """`GET /models`: what the settings and the tenant's kinds name."""
    return json_response(answers.Models(data=[answers.Model(id=name) for name in known(call)]))


async def model(call: Call[None]) -> web.Response:
    """`GET /models/{id}`: one of them."""
    name = call.named("id")
    if name not in known(call):
        raise NotFoundError(f"there is no model {name[:80]!r}", field="model")
    return json_response(answers.Model(id=name))
