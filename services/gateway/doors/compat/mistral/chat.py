"""Completions, embeddings and models as Mistral's clients ask for them."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from switchyard.events.errors import NotFoundError
from switchyard.services.gateway.doors.compat import completions
from switchyard.services.gateway.doors.compat.answering import Wording
from switchyard.services.gateway.doors.compat.completions import ChatForm, EmbeddingsForm, known
from switchyard.services.gateway.doors.compat.mistral import answers
from switchyard.services.gateway.http.callers import json_response
from switchyard.services.gateway.http.routes import Call
from switchyard.services.intake.batches.forms import MISTRAL
from switchyard.services.intake.ocr import request as ocr


def _refusal(message: str, code: str) -> answers.RefusalAnswer:
    return answers.RefusalAnswer(message=message, type="server_error", code=code)


WORDS: Final = Wording(MISTRAL, _refusal, needs_id=True)


async def chat(call: Call[ChatForm]) -> web.StreamResponse:
    """`POST /chat/completions`: a completion, whole or as a stream."""
    return await completions.chat(call, WORDS, usage=True)


async def embeddings(call: Call[EmbeddingsForm]) -> web.StreamResponse:
    """`POST /embeddings`: those of some texts."""
    return await completions.embeddings(call, WORDS)


async def models(call: Call[None]) -> web.Response:
    """`GET /models`: what the settings and the tenant's kinds name, and what reads documents."""
    return json_response(answers.Models(data=[_model(name) for name in _names(call)]))


async def model(call: Call[None]) -> web.Response:
    """`GET /models/{id}`: one of them."""
    name = call.named("id")
    if name not in _names(call):
        raise NotFoundError(f"there is no model {name[:80]!r}", field="model")
    return json_response(_model(name))


def _names(call: Call[None]) -> list[str]:
    return sorted({*known(call), ocr.MODEL})


def _model(name: str) -> answers.Model:
    is_ocr = name == ocr.MODEL
    return answers.Model(id=name, capabilities=answers.Capabilities(ocr=is_ocr, completion_chat=not is_ocr))
