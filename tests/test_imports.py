"""Which room may import which: from the left to the right of one table, with no circle.

The exceptions at the end are named one by one, each with what ends it. They may only become fewer: one that
is not needed any more fails a test, too.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

ROOT: Final = Path(__file__).parents[1]
MAX_LINES: Final = 400
MAX_MODULES: Final = 15
PACKAGES: Final = {
    "events": set[str](),
    "projections": {"events"},
    "switchyard": {"events"},
    "services": {"events", "projections", "switchyard"},
}
"""What may import what, of the packages."""
ROOMS: Final = (
    "settings distribution clock ids visible file_names log gc concurrency ending",
    "telemetry",
    "broker",
    "records event_message event_store files documents access outbound ledger",
    "connectors",
    "intake",
    "dispatch",
    "worker keeper projector pusher notifier",
    "gateway",
    "run",
    "cli",
)
"""The rooms and modules of `services/`: each may import from the lines above its own, and from its own line
where `BESIDE` allows it."""
BESIDE: Final = (0, 3)
"""Lines whose rooms may import each other, so long as that makes no circle."""
GATEWAY: Final = (
    "http", "live", "metrics readiness explorer", "operations", "app_keys", "health", "openapi",
    "monitor", "gate", "doors", "every_door lease_parts", "app",
)  # fmt: skip
"""The rooms of `services/gateway/`, likewise; no door imports another."""
OPEN: Final = {"gateway", "telemetry"}
"""The rooms that may know of `aiohttp.web`."""

CIRCLES: Final = {
    # The child asks its supervisor what it left behind, which is started as a program of its own.
    "connectors.isolation.child connectors.isolation.supervisor connectors.isolation.traces",
    # Feed and subscription import each other for the types alone, and meet in the index.
    (
        "gateway.live.feed gateway.live.index gateway.live.labels gateway.live.lines gateway.live.previews"
        " gateway.live.replay gateway.live.reports gateway.live.session gateway.live.subscription"
    ),
    # A document of another format within one may be one of this format.
    "documents.office.word.chunks documents.office.word.read",
}
"""Modules that import each other today."""
LONG: Final[set[str]] = set()
"""Files that are longer than they should be."""
FULL: Final[set[str]] = set()
"""Rooms with more modules than fifteen."""


class Import(NamedTuple):
    """One module imports another; both without the name of the package `services`."""

    importer: str
    imported: str


def dotted(path: Path) -> str:
    """`services/broker/__init__.py` is `services.broker`."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@functools.cache
def modules() -> dict[str, Path]:
    """Every module of ours, by its name."""
    found = {dotted(path): path for top in PACKAGES for path in files(ROOT / top)}
    assert len(found) > 200
    return found


def files(folder: Path) -> Iterator[Path]:
    """The modules in a folder, those behind links left out."""
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            yield from files(path)
        elif path.suffix == ".py":
            yield path


def plain(name: str) -> str:
    """A module's name as its folder says it, however it is imported."""
    inner = name.removeprefix("switchyard.")
    return inner if inner.partition(".")[0] in PACKAGES else name


@functools.cache
def imported(path: Path) -> frozenset[str]:
    """All that a file imports, wherever in it; what comes out of a package is named with it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {plain(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where they lead"
            for alias in node.names:
                whole = plain(f"{node.module}.{alias.name}")
                found.add(whole if whole in modules() else plain(str(node.module)))
    return frozenset(found)


def within(package: str) -> Iterator[Import]:
    """The imports between modules of a package."""
    for name, path in modules().items():
        for other in imported(path):
            if name.startswith(f"{package}.") and other.startswith(f"{package}."):
                yield Import(name.removeprefix(f"{package}."), other.removeprefix(f"{package}."))


def ranks(table: tuple[str, ...]) -> dict[str, int]:
    """The line of each room."""
    return {room: line for line, rooms in enumerate(table) for room in rooms.split()}


def against(table: tuple[str, ...], package: str, beside: tuple[int, ...] = ()) -> list[Import]:
    """The imports within a package that a table does not allow."""
    rank = ranks(table)
    wrong = []
    for one in within(package):
        here, there = (name.partition(".")[0] for name in one)
        assert here in rank, f"{package}/{here} stands in no line of the table"
        if here != there and (rank[there] > rank[here] or (rank[there] == rank[here] not in beside)):
            wrong.append(one)
    return wrong


def circles(graph: dict[str, set[str]]) -> set[frozenset[str]]:
    """What lies on circles, each circle once."""
    reach: dict[str, set[str]] = {}
    for start in graph:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            new = graph.get(waiting.pop(), set()) - seen
            seen |= new
            waiting += new
        reach[start] = seen
    return {
        frozenset({one, *(other for other in reach[one] if one in reach.get(other, set()))})
        for one in graph
        if one in reach[one]
    }


def graph_of(edges: Iterator[Import] | list[Import]) -> dict[str, set[str]]:
    """Who imports whom."""
    graph: dict[str, set[str]] = {}
    for here, there in edges:
        if here != there:
            graph.setdefault(here, set()).add(there)
    return graph


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_one_way(package: str) -> None:
    allowed = PACKAGES[package] | {package}
    found = {
        (name, other)
        for name, path in modules().items()
        for other in imported(path)
        if name.partition(".")[0] == package
        and other.partition(".")[0] in PACKAGES
        and other.partition(".")[0] not in allowed
    }
    assert found == set()


def test_rooms_import_from_their_left() -> None:
    assert against(ROOMS, "services", BESIDE) == []


def test_rooms_make_no_circle() -> None:
    edges = [Import(*(name.partition(".")[0] for name in one)) for one in within("services")]
    assert circles(graph_of(edges)) == set()


def test_rooms_of_the_gateway_import_from_their_left() -> None:
    assert against(GATEWAY, "services.gateway") == []


def test_no_door_imports_another() -> None:
    found = {
        (one.importer, one.imported)
        for one in within("services.gateway")
        if one.importer.startswith("doors.")
        and one.imported.startswith("doors.")
        and one.importer.split(".")[1] != one.imported.split(".")[1]
    }
    assert found == set()


def test_operations_know_nothing_of_http() -> None:
    found = {
        name
        for name, path in modules().items()
        if name.startswith("services.gateway.operations.")
        and any(other.partition(".")[0] == "aiohttp" for other in _names(path))
    }
    assert found == set()


def test_no_circle_of_modules() -> None:
    found = {" ".join(sorted(circle)) for circle in circles(graph_of(within("services")))}
    assert found == CIRCLES
    for package in ("events", "projections"):
        assert circles(graph_of(within(package))) == set()


def test_the_converter_imports_nothing_of_ours() -> None:
    found = {
        (name, other)
        for name, path in modules().items()
        for other in imported(path)
        if name.startswith("services.documents")
        and other.partition(".")[0] in PACKAGES
        and not other.startswith("services.documents")
    }
    assert found == set()


def test_only_the_gateway_knows_of_requests() -> None:
    found = {
        name
        for name, path in modules().items()
        if any(other == "aiohttp.web" or other.startswith("aiohttp.web_") for other in _names(path))
    }
    assert found
    assert {
        name for name in found if name.startswith("services.") and name.split(".")[1] not in OPEN
    } == set()


def _names(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_examples_import_only_what_users_may() -> None:
    paths = list((ROOT / "examples").glob("*.py"))
    assert paths
    inner = {"events", "projections", "services"}
    for path in paths:
        assert {name.partition(".")[0] for name in imported(path)} & inner == set(), path


def test_no_module_is_too_long() -> None:
    long = {
        path.relative_to(ROOT).as_posix()
        for path in modules().values()
        if len(path.read_text().splitlines()) > MAX_LINES
    }
    assert long == LONG


def test_no_room_is_too_full() -> None:
    counts: dict[str, int] = {}
    for path in modules().values():
        if path.name != "__init__.py":
            room = path.parent.relative_to(ROOT).as_posix()
            counts[room] = counts.get(room, 0) + 1
    assert {room for room, count in counts.items() if count > MAX_MODULES} == FULL


def test_every_module_says_its_role() -> None:
    """In a first sentence of a few words; that of a room says what is in it, and that of no other."""
    first = {}
    for name, path in modules().items():
        said = ast.get_docstring(ast.parse(path.read_text())) or ""
        first[name] = " ".join(said.partition("\n\n")[0].split())
    assert {name for name, said in first.items() if len(said.split()) < 2} == set()
    rooms = {name: said for name, said in first.items() if modules()[name].name == "__init__.py"}
    assert {name for name, said in rooms.items() if len(said.split()) < 4} == set()
    assert len(set(rooms.values())) == len(rooms)
