"""Doors: the APIs that live side by side in one gateway, each with its paths, callers and way to refuse."""

from __future__ import annotations

import re
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from aiohttp import hdrs, web

from switchyard.events.errors import InvalidError
from switchyard.services.access.identify import Identifier
from switchyard.services.access.principal import Principal, Role
from switchyard.services.gateway.http.identity import DOORKEEPER
from switchyard.services.gateway.http.problems import about_query, problem_of
from switchyard.services.gateway.http.routes import Call, Lasts, Reading, Route
from switchyard.services.gateway.http.uploads import continue_later

RESERVED: Final = frozenset({"", "docs", "health", "monitor", "openapi.json"})
"""First segments of paths that are the gateway's own."""
KEYS: Final = ("token", "apiKey", "scopeKey")
"""Sorts of tokens and keys, as the description of the API names them."""
_PART: Final = re.compile(r"\{[^{}]*\}")
_NAMED: Final = re.compile(r"\{([a-z_]+)\}")


class Beside(Protocol):
    """What runs as long as the gateway does."""

    def run(self) -> Coroutine[Any, Any, None]:
        """Run until cancelled."""


class Listener(NamedTuple):
    """A place of its own at which a door is called, and no other.

    Args:
        host: the address.
        port: 0 takes a free one.
        routes: what is answered there beside the door's routes.
    """

    host: str
    port: int
    routes: tuple[Route, ...] = ()


class Door:
    """One API.

    A door says which paths are its own, and what it answers there. The rest has a default: callers are found
    as everywhere, and refusals are problem documents.
    """

    name: str = ""
    prefixes: tuple[str, ...] = ()
    """Where the paths begin that it owns, in whole segments: `/v1` owns `/v1/jobs` and not `/v1x`."""
    refusal: Any = None
    """The type of a refusal's body, where that is no problem document."""
    refused_in_words: frozenset[int] = frozenset()
    """Statuses whose refusals are plain text."""

    def routes(self) -> Sequence[Route]:
        """All that it answers."""
        return ()

    async def open(self, app: web.Application) -> Sequence[Beside]:
        """Put in what its routes go by; what of it runs beside the door.

        Args:
            app: has what all doors share.
        """
        del app
        return ()

    def listener(self, app: web.Application) -> Listener | None:
        """A listener of its own, where it has one; asked for once it is open."""
        del app
        return None

    def identifiers(self) -> Sequence[Identifier]:
        """Kinds of keys of its own that count at every door; asked for once it is open."""
        return ()

    async def identify(self, request: web.Request, route: Route | None) -> Principal | None:
        """Who calls; None where nobody needs to say.

        Args:
            request: its body is not read.
            route: that it is for; None where the door has none at this path.

        Raises:
            UnauthenticatedError: nobody that is known here.
        """
        if route is not None and route.lasts is Lasts.CONNECTION:
            return None  # it judges its token itself: a browser brings its own inside the connection
        return await request.app[DOORKEEPER].let_in(request)

    def keys(self, route: Route) -> Mapping[str, Sequence[Role]]:
        """Which of `KEYS` open a route, each with the roles any of which it needs; none where all may."""
        roles = (Role.VIEWER,) if route.lasts is Lasts.CONNECTION else route.roles
        return dict.fromkeys(KEYS, roles)

    def admit(self, call: Call[object]) -> None:
        """Let a request pass that has been read.

        Raises:
            RejectedError: something in it is not the caller's.
        """

    def refused_status(self, status: int) -> int:
        """The status that the door answers with where others answer with this one."""
        return status

    def refuse(self, error: BaseException, request: web.Request) -> web.Response:
        """The answer for what went wrong, in the door's words."""
        return about_query(problem_of(error), request.query).response(request)


class Bound:
    """A route as the router calls it."""

    __slots__ = ("_reading", "door", "route")

    def __init__(self, door: Door, route: Route) -> None:
        self.door = door
        self.route = route
        self._reading = Reading(route)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request whose caller is known."""
        call = await self._reading.call(request)
        self.door.admit(call)
        return await self.route.handler(call)


def bound(request: web.Request) -> Bound | None:
    """The route that a request is for."""
    found = getattr(request.match_info.handler, "__self__", None)
    return found if isinstance(found, Bound) else None


def segments(path: str) -> tuple[str, ...]:
    """A path in its parts; `/` and what lies behind a last slash is an empty one."""
    return tuple(path.split("/")[1:])


class Doors:
    """The doors of a gateway, and which of them a path belongs to.

    Args:
        house: the gateway's own door, which owns every path that is no other's.
        doors: the others, in any order.

    Raises:
        InvalidError: two doors have the same prefix, or a prefix is not one, or the gateway's own.
    """

    def __init__(self, house: Door, doors: Sequence[Door]) -> None:
        self._house = house
        self.all: tuple[Door, ...] = (house, *doors)
        self._by_prefix: dict[tuple[str, ...], Door] = {}
        for door in doors:
            for prefix in door.prefixes:
                self._add(door, prefix)
        self._longest = max(map(len, self._by_prefix), default=0)
        self.listeners: dict[str, Listener] = {}
        """By door, those that have one."""
        self._alone: dict[tuple[str, str, str], Bound] = {}

    def _add(self, door: Door, prefix: str) -> None:
        parts = segments(prefix)
        if not prefix.startswith("/") or not all(parts) or _PART.search(prefix):
            raise InvalidError(f"door {door.name}: {prefix!r} is no prefix of whole segments")
        if parts[0] in RESERVED:
            raise InvalidError(f"door {door.name}: {prefix} is the gateway's own")
        other = self._by_prefix.setdefault(parts, door)
        if other is not door:
            raise InvalidError(f"doors {other.name} and {door.name} both want {prefix}")

    def of(self, path: str) -> Door:
        """The door with the longest prefix of a path."""
        parts = segments(path)
        for length in range(min(len(parts), self._longest), 0, -1):
            door = self._by_prefix.get(parts[:length])
            if door is not None:
                return door
        return self._house

    def listen(self, app: web.Application) -> None:
        """Note which doors have a listener of their own, once all are open."""
        for door in self.all:
            listener = door.listener(app)
            if listener is not None:
                self.listeners[door.name] = listener
                for route in listener.routes:
                    self._alone[door.name, route.method, route.path] = Bound(door, route)

    def alone(self, name: str, method: str, path: str) -> tuple[Door, Bound | None]:
        """The door of a listener, and what is at a path there that is none of the door's own."""
        door = next(door for door in self.all if door.name == name)
        return door, self._alone.get((name, method, path))

    def connect(self, router: web.UrlDispatcher) -> None:
        """Register the routes of all doors.

        Raises:
            InvalidError: two routes have the same method and path, or one lies outside of its door.
        """
        taken: dict[tuple[str, str], Door] = {}
        for door in self.all:
            for route in door.routes():
                where = route.method, _PART.sub("{}", route.path)
                if where in taken:
                    names = " and ".join(dict.fromkeys((taken[where].name, door.name)))
                    raise InvalidError(f"{names}: {route.method} {route.path} is registered twice")
                taken[where] = door
                if self.of(route.path) is not door:
                    raise InvalidError(f"door {door.name}: {route.path} lies outside of its prefixes")
                self._register(router, Bound(door, route))

    def _register(self, router: web.UrlDispatcher, one: Bound) -> None:
        route = one.route
        # By itself aiohttp takes no braces there; what is no id is for the route to say.
        path = _NAMED.sub(r"{\1:[^/]+}", route.path)
        expect = continue_later if route.expects else None
        if route.method == hdrs.METH_GET:
            head = route.lasts is not Lasts.CONNECTION
            router.add_get(path, one.handle, allow_head=head, expect_handler=expect)
        else:
            router.add_route(route.method, path, one.handle, expect_handler=expect)
