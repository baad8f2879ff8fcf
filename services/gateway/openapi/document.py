"""From the tables of routes to an OpenAPI document. Source: OpenAPI 3.1.1, JSON Schema 2020-12."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any, Final

from switchyard.services.gateway.http.doors import Door
from switchyard.services.gateway.http.problems import MEDIA_TYPE, ProblemAnswer, phrase_of
from switchyard.services.gateway.http.routes import Media, OneOf, Route, refusals
from switchyard.services.gateway.live.messages import Auth, Ping, Subscribe, Unsubscribe
from switchyard.services.gateway.openapi.parameters import NAMED, answer_headers, parameters
from switchyard.services.gateway.openapi.schemas import Schema, Schemas, prefix_of

JSON: Final = "application/json"
OCTETS: Final = "application/octet-stream"
ANY: Final = "*/*"
DIALECT: Final = "https://spec.openapis.org/oas/3.1/dialect/base"
LIVE: Final = (Auth, Subscribe, Unsubscribe, Ping)
"""What a client sends over a WebSocket."""
BINARY: Final[Schema] = {"type": "string", "format": "binary"}
SCHEMES: Final = {
    "token": {
        "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
        "description": "`Authorization: Bearer` with a JSON Web Token, or with an API key.",
    },
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key."},
    "scopeKey": {
        "type": "http", "scheme": "bearer", "bearerFormat": "oct_…",
        "description": "`Authorization: Bearer` with the key of one of Octopoid's scopes.",
    },
}  # fmt: skip
ABOUT: Final = """\
A job platform. Every operation says in `x-roles` which roles open it: any of them does, and none stands for
everybody. `admin` has all roles, `tenant-admin` those of submitter, worker and reviewer, and all but
`registrar` are viewers. Every GET is answered for HEAD too, save for live connections. Times are RFC 3339 in
UTC. A field that is not listed may be added to an answer; one that a body does not list is refused, except
below `/api`, `/compat`, `/openai` and `/mistral`. Each refusal lists its codes as `x-codes`; others may be
added."""


WORDS: Final = "text/plain"


def document(doors: Sequence[Door], version: str) -> Schema:
    """The description of all that doors answer; deterministic.

    Args:
        doors: in the order of their parts.
        version: of Switchyard.
    """
    schemas = Schemas(_types(doors))
    paths: dict[str, Schema] = {}
    refused = _Refused(schemas)
    tags: dict[str, None] = {}
    for door in doors:
        for route in door.routes():
            one = _operation(door, route, schemas, refused)
            tags |= dict.fromkeys(one["tags"])
            paths.setdefault(route.path, {})[route.method.lower()] = one
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "Switchyard", "version": version, "description": ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "jsonSchemaDialect": DIALECT,
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "responses": dict(sorted(refused.shared.items())),
            "securitySchemes": SCHEMES,
        },
        "tags": [{"name": tag} for tag in tags],
    }  # fmt: skip


def _types(doors: Sequence[Door]) -> Iterator[tuple[Door, Any]]:
    """Every type that stands in a table, with its door."""
    for door in doors:
        yield door, _refusal_of(door)
        for route in door.routes():
            for kind in (route.body, *route.answers.values()):
                one = kind.item if isinstance(kind, Media) else kind
                several = one.types if isinstance(one, OneOf) else () if one is None else (one,)
                yield from ((door, form) for form in several if not isinstance(form, Media))
            if 101 in route.answers:
                yield from ((door, kind) for kind in LIVE)


def _refusal_of(door: Door) -> Any:
    return ProblemAnswer if door.refusal is None else door.refusal


def _operation(door: Door, route: Route, schemas: Schemas, refused: _Refused) -> Schema:
    keys = door.keys(route)
    roles = sorted({role.value for wanted in keys.values() for role in wanted})
    found: Schema = {
        "operationId": _operation_id(route),
        "tags": [_tag(door, route)],
        "summary": route.summary,
        "parameters": parameters(route, has_caller=bool(keys)),
        "responses": {},
        "security": [
            {key: [] if role is None else [role.value]}
            for key, wanted in keys.items()
            for role in wanted or (None,)
        ],
        "x-roles": roles,
    }
    if text := inspect.getdoc(route.handler):
        found["description"] = text.partition("\n\n")[0]
    if route.body is not None:
        found["requestBody"] = _body(door, route, schemas)
    for status, answer in sorted(route.answers.items()):
        found["responses"][str(status)] = _answer(door, route, status, answer, schemas)
    for status, codes in _by_status(door, route).items():
        if status in route.answers:
            continue
        found["responses"][str(status)] = refused.of(door, route, status, codes)
    if 101 in route.answers:
        found["x-websocket"] = {"sends": [schemas.of(door, kind) for kind in LIVE]}
    return found


def _operation_id(route: Route) -> str:
    """Unique, as method and path are."""
    parts = [part.replace("-", "_").replace(".", "_") for part in route.path.split("/") if part]
    named = [NAMED.sub(r"by_\1", part) for part in parts]
    return "_".join((route.method.lower(), *named))


def _tag(door: Door, route: Route) -> str:
    prefix = max((one for one in door.prefixes if route.path.startswith(one)), key=len, default="")
    area = route.path.removeprefix(prefix).strip("/").partition("/")[0]
    return " ".join(dict.fromkeys(filter(None, (prefix_of(door).lower(), area or door.name))))


def _body(door: Door, route: Route, schemas: Schemas) -> Schema:
    body = route.body
    if isinstance(body, Media):
        content = {body.type: _media(door, body, schemas)}
        if body.form:
            file = {"type": "object", "properties": {"file": BINARY}, "required": ["file"]}
            content["multipart/form-data"] = {"schema": file}
        return {"required": True, "content": content}
    return {"required": route.empty is None, "content": {JSON: {"schema": schemas.of(door, body)}}}


def _media(door: Door, media: Media, schemas: Schemas) -> Schema:
    if media.item is not None:
        item = schemas.of(door, media.item)
        return {"schema": {"type": "string", "description": "A line of JSON for each."}, "x-itemSchema": item}
    return {"schema": {"type": "string"} if media.type.startswith("text/") else BINARY}


def _answer(door: Door, route: Route, status: int, answer: Any, schemas: Schemas) -> Schema:
    found: Schema = {"description": phrase_of(status)}
    if headers := answer_headers(route, status, has_caller=bool(door.keys(route))):
        found["headers"] = headers
    if isinstance(answer, Media):
        described = _media(door, answer, schemas)
        # Some generators of clients pass over a type that stands for all.
        types = (OCTETS, ANY) if answer.type == ANY else (answer.type.partition(";")[0],)
        found["content"] = dict.fromkeys(types, described)
    elif isinstance(answer, OneOf):
        forms = [schemas.of(door, form) for form in answer.types if not isinstance(form, Media)]
        media = {form.type: _media(door, form, schemas) for form in answer.types if isinstance(form, Media)}
        either = {JSON: {"schema": forms[0] if len(forms) == 1 else {"anyOf": forms}}} if forms else {}
        found["content"] = either | media
    elif answer is not None:
        content: Schema = {JSON: {"schema": schemas.of(door, answer)}}
        found["content"] = content
    return found


def _by_status(door: Door, route: Route) -> dict[int, list[str]]:
    """The codes of a route's refusals."""
    found: dict[int, set[str]] = {}
    for status, code in refusals(route):
        asks = bool(door.keys(route)) or (status, code) in route.errors
        if status in (401, 403) and not asks:
            continue  # nobody is asked who calls
        found.setdefault(door.refused_status(status), set()).add(code)
    return {status: sorted(codes) for status, codes in sorted(found.items())}


class _Refused:
    """Refusals, each of which many routes share."""

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas
        self.shared: dict[str, Schema] = {}

    def of(self, door: Door, route: Route, status: int, codes: Sequence[str]) -> Schema:
        """A reference to the answer with a status and one of some codes."""
        has_caller = bool(door.keys(route))
        phrase = phrase_of(status)
        whose = prefix_of(door) if has_caller else f"{prefix_of(door)}Open"
        name = ".".join((f"{whose}Refused{status}", *codes))
        if name not in self.shared:
            schema = self._schemas.of(door, _refusal_of(door))
            # No schema of its own for each set of codes: generators would make a thousand types of them.
            found: Schema = {"description": f"{phrase}: {', '.join(codes)}", "x-codes": list(codes)}
            if headers := answer_headers(route, status, has_caller=has_caller):
                found["headers"] = headers
            media = MEDIA_TYPE if door.refusal is None else JSON
            if status in door.refused_in_words:
                media, schema = WORDS, {"type": "string"}
            self.shared[name] = found | {"content": {media: {"schema": schema}}}
        return {"$ref": f"#/components/responses/{name}"}
