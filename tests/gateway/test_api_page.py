"""The page of the API says what the code does: routes, parameters, fields of bodies, codes and status."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from switchyard.events import allowed, errors
from switchyard.events.values import Status
from switchyard.events.vocabulary.causes import DeadReason
from switchyard.events.vocabulary.refusals import RefusalCode
from switchyard.services.access import errors as access_errors
from switchyard.services.gateway.doors.v1.door import V1
from switchyard.services.gateway.doors.v1.leases.callbacks import CallbackRequest
from switchyard.services.gateway.gate import House
from switchyard.services.gateway.http import problems
from switchyard.services.gateway.http.routes import Lasts, Media, Route
from switchyard.services.intake import faults
from tests.gateway.rest import Gateway

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs/api.md").read_text()
LIVE_PAGE: Final = (ROOT / "docs/live.md").read_text()
SECTION: Final = re.compile(r"^### `([A-Z]+) (/[^`]*)`\n(.*?)(?=^##)", re.MULTILINE | re.DOTALL)
SECTIONS: Final = {(found[1], found[2]): found[3] for found in SECTION.finditer(PAGE + "##")}

ANY_ID: Final = "01a206cb-14b3-7f30-904f-7f2a9444f80b"
FILLED: Final = {
    "{id}": ANY_ID,
    "{kind}": "noop",
    "{lane}": "noop-1",
    "{folder}": "loras",
    "{name}": "x",
    "{start}": "2000-01-01",
    "{of}": "all",
    "{stream}": "JOBS",
    "{seq}": "1",
    "{ticket}": "x",
    "{part}": ANY_ID,
    "{what}": "queues",
    "{version}": "1",
}
EVERYWHERE: Final = {"tenant", "cursor", "limit"}
"""Parameters that the page describes once, for all lists and for admins."""

ELSEWHERE: Final = {"unresolved_reference"}
"""Codes of errors that a job ends with: no answer has them."""
OF_LIVE: Final = ("live", "websocket")


ROUTES: Final = [(route.method, route.path, route) for door in (House(), V1()) for route in door.routes()]
"""Every route of the API."""


def test_every_route_is_described_and_no_other() -> None:
    assert sorted((method, path) for method, path, _ in ROUTES) == sorted(SECTIONS)


async def test_every_parameter_is_described_with_its_route(api: Gateway) -> None:
    token = api.token("admin")
    for method, path, route in ROUTES:
        filled = functools.reduce(lambda text, name: text.replace(name, FILLED[name]), FILLED, path)
        answer = await api.call(method, f"{filled}?bogus=1", token=token)
        if "{ticket}" in path:  # whose caller is found by the path, and comes before the query
            assert (answer.status, answer.json["code"]) == (401, "outcome_token_invalid")
            assert all(f"?{one.name}=" in SECTIONS[method, path] for one in route.query)
            continue
        assert (answer.status, answer.json["code"]) == (400, "unknown_parameter"), (method, path, answer)
        known = answer.json["detail"].partition("known: ")[2].split(", ")
        described = SECTIONS[method, path] + (LIVE_PAGE if route.lasts is Lasts.CONNECTION else "")
        for name in {*known} - {"none"} - EVERYWHERE:
            assert re.search(rf"[`?&]{name}[`=]", described), (method, path, name)


# --- Bodies


def fields_of(kind: Any) -> Iterator[str]:
    """The names in a body, those of what stands in it too."""
    match kind:
        case msgspec.inspect.StructType(cls=cls, fields=fields):
            for field in fields:
                yield field.encode_name
                yield from fields_of(field.type)
            assert cls.__struct_config__.forbid_unknown_fields or cls is CallbackRequest, cls
        case msgspec.inspect.UnionType(types=types):
            for one in types:
                yield from fields_of(one)
        case msgspec.inspect.ListType(item_type=item):
            yield from fields_of(item)


def body_of(route: Route) -> Any:
    """What a route's body is, or each line of it."""
    return route.body.item if isinstance(route.body, Media) else route.body


BODIES: Final = [
    pytest.param(method, path, body_of(route), id=f"{method} {path}")
    for method, path, route in ROUTES
    if body_of(route) is not None
]


@pytest.mark.parametrize(("method", "path", "body"), BODIES)
def test_every_field_of_a_body_is_described_with_its_route(method: str, path: str, body: Any) -> None:
    described = SECTIONS[method, path]
    if "body as above" in described:
        described += SECTIONS["POST", "/v1/jobs"]
    if "as for a submission" in described:
        described += SECTIONS["POST", "/v1/jobs"]
    for named in re.findall(r"(?:As|that of|in place of|with) `(\w+)`", described):
        described += "".join(
            text for (_, where), text in SECTIONS.items() if where.endswith(f"/{named.lower()}")
        )
    if "/discard" in path and "dead-letters" in path:
        described += SECTIONS["POST", "/v1/dead-letters/redrive"]
    if "that of `POST`" in described:
        described += SECTIONS["POST", path.split("/{", 1)[0].removesuffix("/preview")]
    for field in set(fields_of(msgspec.inspect.type_info(body))):
        assert re.search(rf"[`\"]{field}[`\"]", described), (method, path, field)


# --- Codes


def _sources() -> Iterator[tuple[str, ast.Module]]:
    for package in ("events", "services"):
        for path in (ROOT / package).rglob("*.py"):
            aside = {
                "octopoid", "tasks", "emp", "ilios", "entries", "connectors", "documents", "worker", "cli",
            } & {*path.relative_to(ROOT).parts}  # fmt: skip
            if not aside:  # other doors describe their own
                of_live = path.parent == ROOT / "services" / "gateway" / "live"
                yield "live" if of_live else path.stem, ast.parse(path.read_text())


def _class_of(name: str) -> type[errors.RejectedError] | None:
    modules = (errors, access_errors, faults, problems)
    found = next((vars(module)[name] for module in modules if name in vars(module)), None)
    return found if isinstance(found, type) and issubclass(found, errors.RejectedError) else None


def _constant(call: ast.Call, name: str) -> Any:
    value = next((keyword.value for keyword in call.keywords if keyword.arg == name), None)
    if isinstance(value, ast.Attribute) and ast.unparse(value.value) == RefusalCode.__name__:
        return RefusalCode[value.attr].value
    return value.value if isinstance(value, ast.Constant) else None


def codes_in_the_code(*, live: bool) -> dict[str, set[int]]:
    """From every code that stands in the code as such to the status that it is answered with."""
    found: dict[str, set[int]] = {}
    for stem, tree in _sources():
        if stem.startswith(OF_LIVE) != live:
            continue
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            name, code = node.func.id, _constant(node, "code")
            if name == "_refusal" and stem == "shares":
                found.setdefault(ast.literal_eval(node.args[1]), set()).add(429)
            if name == "Bounds" and len(node.args) > 4:
                found.setdefault(ast.literal_eval(node.args[4]), set()).add(ast.literal_eval(node.args[3]))
            if not isinstance(code, str):
                continue
            kind = _class_of(name)
            status = _constant(node, "status") or getattr(kind, "status", None)
            if name in ("LimitError", "Bounds"):
                status = _constant(node, "status") or 429
            if status is not None:
                found.setdefault(code, set()).add(status)
    return found


def documented(page: str) -> dict[str, set[str]]:
    """From every code in the table to its status, as it stands there."""
    table = page.partition("## Problem codes")[2]
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| ([^|]+) \|", table, re.MULTILINE)
    found: dict[str, set[str]] = {}
    for names, status in rows:
        for code in re.findall(r"`(\w+)`", names):
            assert code not in found, code
            found[code] = set(re.findall(r"\d(?:\d\d|xx)", status))
    return found


def test_every_code_is_documented_with_its_status() -> None:
    found = codes_in_the_code(live=False)
    for kind in _all_of(errors.RejectedError):
        if kind.__module__.startswith("switchyard.") and kind is not errors.LimitError:
            found.setdefault(kind.code, set()).add(kind.status)
    for status, code in problems._HTTP_CODES.items():
        found.setdefault(code, set()).add(status)
    listed = documented(PAGE)
    for code, statuses in found.items():
        if code not in ELSEWHERE:
            assert listed.get(code) == {str(status) for status in statuses}, code
    assert set(listed) - set(found) == {"http_error", "limit"}


def _all_of(kind: type[errors.RejectedError]) -> Iterator[type[errors.RejectedError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _all_of(below)


def test_every_code_of_a_live_connection_is_documented() -> None:
    listed = set(re.findall(r"^\| `(\w+)` \|", LIVE_PAGE, re.MULTILINE))
    # Closes the connection before there is one to answer on.
    assert set(codes_in_the_code(live=True)) - {"token_missing"} <= listed


def test_every_action_that_a_refusal_may_allow_is_a_route_of_the_page() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| `([A-Z]+ /[^`]+)`", PAGE, re.MULTILINE))
    actions = {action for status in Status for action in allowed.allowed_commands(status)} | {
        "repair",
        "discard",
    }
    assert set(rows) == actions
    assert {tuple(route.split(" ")) for route in rows.values()} <= set(SECTIONS)


def test_every_reason_of_death_is_described() -> None:
    described = SECTIONS["GET", "/v1/dead-letters"]
    assert {reason.value for reason in DeadReason} <= set(re.findall(r"`(\w+)`", described))
