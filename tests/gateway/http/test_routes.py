"""Doors side by side: whose a path is, who may call, how bodies are read, and who words a refusal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer, make_mocked_request

from switchyard.events.errors import InvalidError
from switchyard.services.access.errors import UnauthenticatedError
from switchyard.services.access.identify import Identifiers
from switchyard.services.access.principal import Principal
from switchyard.services.access.rates import Rates
from switchyard.services.gateway.app import running_app
from switchyard.services.gateway.app_keys import SETTINGS
from switchyard.services.gateway.every_door import doors
from switchyard.services.gateway.gate import House
from switchyard.services.gateway.http.doors import Beside, Door, Doors
from switchyard.services.gateway.http.identity import Doorkeeper
from switchyard.services.gateway.http.routes import Lasts, Media, OneOf, Route
from tests.gateway import tiny_door
from tests.gateway.rest import Gateway
from tests.gateway.tiny_door import TinyDoor, look

Http = TestClient[web.Request, web.Application]


@pytest.fixture
async def http(api: Gateway) -> AsyncIterator[Http]:
    async with (
        running_app(api.settings, api.nc, [TinyDoor()]) as app,
        TestClient(TestServer(app)) as client,
    ):
        yield client


def test_a_whole_door_is_one_short_file() -> None:
    assert len(Path(tiny_door.__file__).read_text().splitlines()) < 80


async def test_a_second_door_submits_and_reads_a_job(http: Http) -> None:
    made = await http.post("/tiny/orders", json={"word": "hi"}, headers={"X-Name": "ann"})
    assert made.status == 201
    ticket = await made.json()
    found = await http.get(f"/tiny/orders/{ticket['number']}", headers={"X-Name": "bob"})
    assert (found.status, (await found.json())["number"]) == (200, ticket["number"])


@pytest.mark.parametrize(
    ("method", "path", "name", "status", "said"),
    [
        ("GET", "/tiny/orders/x", "", 401, "no: who are you?"),
        ("GET", "/tiny/nowhere", "bob", 404, "no: there is no such route"),
        ("GET", "/tiny/nowhere", "", 401, "no: who are you?"),
        ("GET", "/v1/tiny/nowhere", "bob", 404, "no: there is no such route"),
        ("PUT", "/tiny/orders/x", "bob", 405, "no: PUT is not allowed here; allowed: GET, HEAD"),
        (
            "POST",
            "/tiny/orders",
            "bob",
            403,
            "no: this needs a token with role submitter; this one has viewer",
        ),
        ("GET", "/tiny/orders/x?y=1", "bob", 400, "no: there is no parameter 'y' here; known: none"),
    ],
)
async def test_a_door_words_its_refusals(
    http: Http, method: str, path: str, name: str, status: int, said: str
) -> None:
    answer = await http.request(method, path, headers={"X-Name": name})
    assert (answer.status, await answer.text()) == (status, said)
    assert (answer.headers.get("Allow") is not None) == (status == 405)


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "no: the body is not JSON: Input data was truncated"),
        (b"{", 400, "no: the body is not JSON: Input data was truncated"),
        (b"{}", 422, "no: word: missing, but required"),
        (b'{"word": 1}', 422, "no: word: expected str, got int"),
        (b'{"word": "x", "y": 1}', 422, "no: y: there is no such field"),
        (b'{"word": "\xff"}', 400, "no: the body is not UTF-8"),
    ],
)
async def test_every_door_reads_bodies_alike(http: Http, body: bytes, status: int, said: str) -> None:
    headers = {"X-Name": "ann", "Content-Type": "application/json"}
    answer = await http.post("/tiny/orders", data=body, headers=headers)
    assert (answer.status, await answer.text()) == (status, said)


@pytest.mark.parametrize(
    "path", ["/tin", "/tinyx", "/tinyx/orders", "/nowhere", "/api", "/api/v2", "/docs/", "/docs/x"]
)
async def test_a_path_of_no_door_is_answered_by_the_gateway(http: Http, api: Gateway, path: str) -> None:
    headers = {"X-Name": "bob", "Authorization": f"Bearer {api.token('viewer')}"}
    answer = await http.get(path, headers=headers)
    assert (answer.status, answer.content_type) == (404, "application/problem+json")
    assert (await answer.json())["code"] == "no_such_route"


async def test_octopoid_words_what_is_refused_under_its_own_prefix_alone(http: Http, api: Gateway) -> None:
    for path in ("/api/v1/nowhere", "/api/v1"):
        answer = await http.get(path)
        assert (answer.status, (await answer.json())["error"]) == (
            401, "this needs the header Authorization: Bearer <api_key>",
        )  # fmt: skip
    for path in ("/api", "/api/v12", "/api/v2/tasks"):
        answer = await http.get(path)
        assert (answer.status, answer.content_type) == (401, "application/problem+json")


class Named(Door):
    """A door with nothing but paths."""

    def __init__(self, name: str, *prefixes: str, paths: tuple[str, ...] = ()) -> None:
        self.name = name
        self.prefixes = prefixes
        self.table = tuple(Route(method="GET", path=path, handler=look, summary="Look") for path in paths)

    def routes(self) -> tuple[Route, ...]:
        return self.table


def test_prefixes_match_whole_segments_and_the_longest_wins() -> None:
    short, long, other = Named("short", "/v1"), Named("long", "/v1/batch"), Named("other", "/v1x")
    house = House()
    found = Doors(house, [short, long, other])
    for path, door in {
        "/v1": short, "/v1/": short, "/v1/batches": short, "/v1/batches/1": short, "/v1/x/batch": short,
        "/v1/batch": long, "/v1/batch/": long, "/v1/batch/1/2": long,
        "/v1x": other, "/v1xy": house, "/v": house, "/": house, "": house, "//v1": house, "/V1": house,
    }.items():  # fmt: skip
        assert found.of(path) is door, path


@pytest.mark.parametrize(
    "prefix",
    ["", "v1", "/", "/v1/", "//v1", "/v1//x", "/v1/{id}", "/docs", "/docs/x", "/health", "/openapi.json"],
)
def test_a_prefix_that_is_none_or_the_gateways_fails_at_start(prefix: str) -> None:
    with pytest.raises(InvalidError):
        Doors(House(), [Named("x", prefix)])


@pytest.mark.parametrize(
    "found",
    [
        [Named("a", "/a"), Named("b", "/a")],
        [Named("a", "/a", paths=("/a/{x}", "/a/{y}"))],
        [Named("a", "/a", paths=("/a/x", "/a/x"))],
        [Named("a", "/a", paths=("/b/x",))],
        [Named("a", "/a", paths=("/ab/x",))],
        [Named("a", "/a", paths=("/a/b/x",)), Named("b", "/a/b")],
        [Named("a", "/a", paths=("/docs",))],
        [Named("a", "/a", paths=("/healthz",))],
    ],
)
def test_doors_that_want_the_same_paths_fail_at_start(found: list[Door]) -> None:
    with pytest.raises(InvalidError):
        Doors(House(), found).connect(web.Application().router)


async def test_a_pattern_does_not_reach_into_another_doors_paths(api: Gateway) -> None:
    inner, outer = Named("inner", "/o/in"), Named("outer", "/o", paths=("/o/{x}/y",))
    async with (
        running_app(api.settings, api.nc, [inner, outer]) as app,
        TestClient(TestServer(app)) as client,
    ):
        headers = {"Authorization": f"Bearer {api.token('viewer')}"}
        answer = await client.get("/o/in/y", headers=headers)
        assert (answer.status, (await answer.json())["code"]) == (404, "no_such_route")


class Running(Named):
    """A door beside which something runs."""

    def __init__(self) -> None:
        super().__init__("running", "/running")
        self.runs, self.ended = asyncio.Event(), asyncio.Event()

    async def open(self, app: web.Application) -> list[Beside]:
        assert SETTINGS in app
        return [self]

    async def run(self) -> None:
        self.runs.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()


async def test_what_a_door_needs_runs_as_long_as_the_gateway(api: Gateway) -> None:
    door = Running()
    async with running_app(api.settings, api.nc, [door]):
        async with asyncio.timeout(60):
            await door.runs.wait()
        assert not door.ended.is_set()
    assert door.ended.is_set()


def every_route() -> list[Route]:
    return [route for door in (House(), *doors()) for route in door.routes()]


@pytest.mark.parametrize("route", every_route(), ids=lambda route: f"{route.method} {route.path}")
def test_the_table_says_all_that_a_page_needs(route: Route) -> None:
    assert route.summary
    assert route.answers
    parts = [one.name for one in route.query]
    assert len(parts) == len(set(parts))
    for status, answer in route.answers.items():
        if status in (101, 204, 302, 303, 304):
            assert answer is None
        elif answer is None:  # tus answers in headers alone
            assert route.path.startswith("/v1/uploads")
        else:
            kind: Any = (answer.item if isinstance(answer, Media) else answer) or str
            for one in kind.types if isinstance(kind, OneOf) else (kind,):
                if not isinstance(one, Media):
                    msgspec.json.schema(one)
    if route.body is not None and not isinstance(route.body, Media):
        msgspec.json.schema(route.body)
        assert route.method in ("POST", "PUT", "PATCH")
    assert all(400 <= status < 600 and code for status, code in route.errors)
    if not route.roles:
        assert route.lasts is Lasts.CONNECTION or route.path in (
            "/", "/healthz", "/readyz", "/openapi.json", "/docs", "/docs/page.js", "/docs/page.css",
            "/monitor/{version}/{name}", "/api/health", "/api/v1/orchestrators/register",
            "/api/v1/orchestrators/scopes/{scope}/rotate-key", "/health", "/api/documents/{id}/file",
            "/v1/uploads", "/mistral/v1/files/{id}/signed",
        )  # fmt: skip


class Kind:
    """Knows tokens that begin with its letter; those that end with `!` do not count."""

    def __init__(self, letter: str, asked: list[str]) -> None:
        self._letter, self._asked = letter, asked

    async def identify(self, token: str) -> Principal | None:
        self._asked.append(self._letter)
        if not token.startswith(self._letter):
            return None
        if token.endswith("!"):
            raise UnauthenticatedError(f"{self._letter} is bad", code="token_revoked")
        return Principal(self._letter, "acme", frozenset(), "", float("inf"))


@pytest.mark.parametrize(
    ("header", "subject", "code", "asked"),
    [
        ("Bearer a1", "a", "", ["a"]),
        ("bearer b1", "b", "", ["a", "b"]),
        ("Bearer a1!", "", "token_revoked", ["a"]),
        ("Bearer b1!", "", "token_revoked", ["a", "b"]),
        ("Bearer c1", "", "token_invalid", ["a", "b"]),
        ("Bearer ", "", "token_invalid", []),
        ("Basic a1", "", "token_invalid", []),
        (None, "", "token_missing", []),
    ],
)
async def test_identifiers_are_asked_in_order_and_a_bad_key_ends_it(
    header: str | None, subject: str, code: str, asked: list[str]
) -> None:
    called: list[str] = []
    headers = {} if header is None else {"Authorization": header}
    request = make_mocked_request("GET", "/", headers=headers)
    identifiers = Identifiers([Kind("a", called), Kind("b", called)])
    keeper = Doorkeeper(identifiers, lambda _tenant: None, Rates(size=1))
    if subject:
        assert (await keeper.let_in(request)).subject == subject
    else:
        with pytest.raises(UnauthenticatedError) as refused:
            await keeper.let_in(request)
        assert refused.value.code == code
    assert called == asked
