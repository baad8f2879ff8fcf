"""The description of the API: valid, complete, the same every time, and readable for JavaScript."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import typing
from collections.abc import Iterator
from typing import Any

import msgspec
import orjson
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from switchyard.services.access.principal import Role, implied
from switchyard.services.connectors.registry import CONNECTORS, payload_model
from switchyard.services.gateway.every_door import doors
from switchyard.services.gateway.gate import House
from switchyard.services.gateway.http.routes import Media, refusals
from switchyard.services.gateway.openapi.patterns import ecma
from switchyard.services.gateway.openapi.served import Description, described
from tests.gateway.openapi.described import DOCUMENT, SERVED, codes, found, operations
from tests.gateway.rest import Gateway
from tests.gateway.routes import DOORS, EVERYBODY

OPERATIONS = dict(operations())
TABLE = [(door, route) for door in (House(), *doors()) for route in door.routes()]


def test_document_is_valid() -> None:
    assert DOCUMENT["openapi"] == "3.1.1"
    assert list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors()) == []


def test_every_route_is_described_once_and_no_other() -> None:
    assert list(OPERATIONS) == list(DOORS) or set(OPERATIONS) == set(DOORS)
    ids = [one["operationId"] for one in OPERATIONS.values()]
    assert len(set(ids)) == len(ids)


def test_same_doors_give_the_same_bytes() -> None:
    again = described((House(), *doors()))
    assert list(different(orjson.loads(again.body), orjson.loads(SERVED.body))) == []
    assert again.etag == SERVED.etag  # two megabytes side by side are no message
    assert described((House(metrics_public=True), *doors())).etag != SERVED.etag


def test_bytes_do_not_depend_on_what_was_annotated_before() -> None:
    for clear in typing._cleanups:  # type: ignore[attr-defined]
        clear()
    # The cache of `typing` keeps the last few, of those that are equal the first.
    for most in (3600, 86400, 2592000, 31622400, 316224000):
        for least in (0, 1):
            both = msgspec.Meta(ge=float(least), le=float(most)), msgspec.Meta(gt=float(least), le=most)
            for meta in both:
                typing.Annotated.__class_getitem__((float, meta))  # type: ignore[attr-defined]
    again = described((House(), *doors()))
    for clear in typing._cleanups:  # type: ignore[attr-defined]
        clear()
    assert again.etag == SERVED.etag


async def test_it_is_written_once_however_many_ask_for_it_first() -> None:
    description = Description((House(), *doors()))
    first, second = await asyncio.gather(description.served(), description.served())
    assert first is second is await description.served()
    assert first.etag == SERVED.etag


def different(one: Any, other: Any, path: str = "") -> Iterator[str]:
    """Where two documents differ."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for name, value in one.items():
            yield from different(value, other[name], f"{path}/{name}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, (value, before) in enumerate(zip(one, other, strict=True)):
            yield from different(value, before, f"{path}/{number}")
    elif one != other:
        yield f"{path}: {str(one)[:500]} was {str(other)[:500]}"


def test_all_of_the_table_is_described() -> None:
    for door, route in TABLE:
        one = OPERATIONS[f"{route.method} {route.path}"]
        assert {int(status) for status in one["responses"]} >= set(route.answers)
        sent = {parameter["name"]: parameter["in"] for parameter in one["parameters"]}
        assert {query.name for query in route.query} <= {name for name, at in sent.items() if at == "query"}
        assert {*route.headers} == {name for name, at in sent.items() if at == "header"}
        described = {name for answer in one["responses"].values() for name in answer.get("headers", ())}
        assert {*route.answer_headers} <= described
        assert ("requestBody" in one) == (route.body is not None)
        for status, code in refusals(route):
            shown = door.refused_status(status)
            unasked = not door.keys(route) and status in (401, 403) and (status, code) not in route.errors
            assert (code in codes(one, shown)) != (unasked or shown in route.answers), (route.path, code)
        for answer in route.answers.values():
            if isinstance(answer, type) and issubclass(answer, msgspec.Struct):
                assert any(name.endswith(answer.__name__) for name in DOCUMENT["components"]["schemas"])
            assert not isinstance(answer, Media) or answer.type


def test_every_reference_leads_to_something() -> None:
    for reference in found("$ref"):
        place: Any = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]


def test_roles_of_the_description_are_those_of_whom_the_gateway_lets_in() -> None:
    """Whom it does let in, `test_doors.py` tries with the same table."""
    for name, one in OPERATIONS.items():
        if not one["x-roles"] and (" /api/" in name or "{ticket}" in name):
            assert DOORS[name].who in (EVERYBODY, frozenset()), name
            continue
        wanted = {Role(role) for role in one["x-roles"]}
        may = {role.value for role in Role if not wanted or wanted & implied([role])}
        assert may == DOORS[name].who, name


def test_nobody_needs_a_token_for_what_is_open() -> None:
    is_open = {name for name, one in OPERATIONS.items() if not one["security"]}
    assert is_open == {
        "GET /health", "GET /healthz", "GET /readyz", "GET /openapi.json", "GET /docs", "GET /docs/page.js",
        "GET /", "GET /monitor/{version}/{name}",
        "GET /ws/test", "GET /docs/page.css", "GET /api/health", "POST /v1/outcomes/{ticket}",
        "POST /v1/outcomes/{ticket}/artifacts", "POST /v1/callbacks/{ticket}", "PUT /v1/callbacks/{ticket}",
        "GET /api/documents/{id}/file", "PUT /api/documents/{id}/file",
        "GET /mistral/v1/files/{id}/signed",
    }  # fmt: skip


def test_payloads_of_all_built_in_kinds_are_described() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    for kind in CONNECTORS:
        model = payload_model(kind)
        assert model is not None
        assert set(schemas[model.__name__]["properties"]) == set(model.model_fields)
        for body in ("JobRequest", "BulkLine"):
            assert f'"const":"{kind}"' in orjson.dumps(schemas[body]).decode()


def test_patterns_are_compiled_by_javascript() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    patterns = sorted({one for one in found("pattern") if isinstance(one, str)})
    assert len(patterns) > 5
    script = (
        "const all = JSON.parse(process.argv[1]);"
        "for (const one of all) new RegExp(one, 'u');"
        "const name = new RegExp(process.argv[2], 'u');"
        "console.log(all.length, name.test('convert'), name.test('No'), name.test('a\\n'))"
    )
    name = DOCUMENT["components"]["schemas"]["Filter"]["properties"]["kind"]["items"]["pattern"]
    ran = subprocess.run(
        [node, "-e", script, orjson.dumps(patterns).decode(), name],
        capture_output=True, check=False, text=True,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout) == (0, f"{len(patterns)} true false false\n"), ran.stderr


@pytest.mark.parametrize(
    ("python", "javascript"),
    [
        (r"^a\Z", "^a$"),
        (r"\A[a-z]{1,3}\Z", "^[a-z]{1,3}$"),
        (r"(?P<x>a)|(?:b)|(?!c)|(?<=d)|(?=e)", "(?<x>a)|(?:b)|(?!c)|(?<=d)|(?=e)"),
        (r"[*+?}]+\.\\Z", r"[*+?}]+\.\\Z"),
        (r"[(?i)]\(\?a[\]\-]", r"[(?i)]\(\?a[\]\-]"),
    ],
)
def test_pattern_is_said_as_javascript_has_it(python: str, javascript: str) -> None:
    assert ecma(python) == javascript


@pytest.mark.parametrize(
    "python",
    [r"a++", r"a*+", r"a?+", r"a{2}+", r"(?>a)", r"(?i)a", r"(?P=x)", r"\d", r"[\w]", r"[\Z]", r"(?#x)"],
)
def test_pattern_that_javascript_has_not_is_refused(python: str) -> None:
    with pytest.raises(ValueError, match="ECMA-262"):
        ecma(python)


async def test_description_is_open_and_sent_once(api: Gateway) -> None:
    url = f"{api.url}/openapi.json"
    async with api.http.get(url) as answer:
        assert (answer.status, answer.content_type) == (200, "application/json")
        same = await answer.read() == SERVED.body
        assert same
        etag = answer.headers["ETag"]
    for tag, status in (
        (etag, 304),
        (f'"x", {etag}', 304),
        (etag.removeprefix("W/"), 304),
        ("*", 304),
        ('"x"', 200),
        ("nonsense", 200),
    ):
        async with api.http.get(url, headers={"If-None-Match": tag}) as answer:
            assert (answer.status, answer.headers["ETag"]) == (status, etag), tag
    async with api.http.head(url) as answer:
        assert (answer.status, await answer.read()) == (200, b"")
    assert (await api.get("/openapi.json?x=1")).status == 400
    assert (await api.call("POST", "/openapi.json", {})).status == 405
