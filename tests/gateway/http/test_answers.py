"""Every answer of every route is as the page of the API describes it: status, and each field."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import orjson
import pytest

from switchyard.services.broker.server.server import NatsServer
from switchyard.services.gateway.http.routes import Media, OneOf, refusals
from tests.gateway import every_route
from tests.gateway.every_route import Said
from tests.gateway.rest import gateway
from tests.gateway.test_api_page import PAGE, ROUTES, SECTIONS

TABLES: Final = PAGE.partition("\n## Answers\n")[2].partition("\n## ")[0]
TOKENS: Final = re.compile(r'"(\w+)"(\?)?|(\w+)|([{}\[\]:,])|\s+')
FREE: Final = {
    "payload", "labels", "requires", "prefers", "capabilities", "result", "feedback", "usage", "checks",
    "data", "weights", "headers", "job", "inputs", "schema", "example", "stalled_s", "wanted",
    "found", "billed", "change_to", "metadata", "options", "found_capabilities", "lines.jobs", "explained",
}  # fmt: skip
"""What holds what a client, a worker or a user gave, or is keyed by names that they gave."""
ELSEWHERE: Final = {
    ("checks", "storage", "error"), ("checks", "read_model", "error"),
    ("checks", "reads", "ok"), ("checks", "reads", "error"), ("checks", "reads", "advice"),
    ("checks", "reads"), ("problem", "field"),
    *(("order", name) for name in ("folder", "name", "claim", "revision", "url", "sha256", "size_bytes",
                                   "headers", "keep")),
    *(("fetch", name) for name in ("model", "worker", "connector", "done_bytes", "size_bytes", "left_s")),
    ("worker", "fetching"), ("worker", "connectors", "down"),
}  # fmt: skip
"""What is there when a broker is full or silent, a back end is down, or a model is fetched.

`test_readiness.py`, `test_storage.py`, `test_down.py` and `test_models.py` see to that.
"""


TABLE: Final = {f"{method} {path}": route for method, path, route in ROUTES}


class Field(NamedTuple):
    """A field of an answer as the page has it."""

    form: Form | None
    optional: bool


Form = dict[str, Field] | list[Any] | str
"""The fields of an object, a list of one form, or the name of a form."""


class Parser:
    """Reads the page's notation."""

    def __init__(self, text: str) -> None:
        self._tokens = [found for found in TOKENS.finditer(text) if not found[0].isspace()]
        assert "".join(found[0] for found in self._tokens) == re.sub(r"\s", "", text), text

    def form(self) -> Form:
        token = self._tokens.pop(0)
        if token[3]:
            return token[3]
        if token[0] == "[":
            inner = self.form()
            self._take("]")
            return [inner]
        assert token[0] == "{"
        fields: dict[str, Field] = {}
        while True:
            name = self._tokens.pop(0)
            form = None
            if self._tokens[0][0] == ":":
                self._take(":")
                form = self.form()
            assert name[1] not in fields
            fields[name[1]] = Field(form, bool(name[2]))
            if self._tokens.pop(0)[0] == "}":
                return fields

    def _take(self, wanted: str) -> None:
        assert self._tokens.pop(0)[0] == wanted


def rows(columns: int) -> Iterator[tuple[str, ...]]:
    for line in TABLES.splitlines():
        cells = tuple(cell.strip() for cell in line.strip().strip("|").split(" | "))
        if len(cells) == columns and cells[0].startswith("`"):
            yield cells


FORMS: Final = {name.strip("`"): Parser(form.strip("`")).form() for name, form in rows(2)}
ANSWERS: Final = {
    route.strip("`"): ({int(one) for one in status.split(", ")}, answer) for route, status, answer in rows(3)
}


class Page:
    """Holds answers against the page, and keeps which of its fields were there."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, ...]] = set()

    def check(self, value: Any, form: Form | None, path: tuple[str, ...]) -> None:
        self.seen.add(path)
        match form:
            case _ if value is None:
                return
            case None:
                plain = [value] if not isinstance(value, list) else value
                names = {path[-1], ".".join(path[-2:])}
                assert names & FREE or not any(isinstance(one, dict | list) for one in plain), (
                    path,
                    value,
                )
            case str():
                self.check(value, FORMS[form], (form,))
            case list():
                assert isinstance(value, list), (path, value)
                for one in value:
                    self.check(one, form[0], path)
            case _:
                assert isinstance(value, dict), (path, value)
                missing = {name for name, field in form.items() if not field.optional} - set(value)
                assert (set(value) - set(form), missing) == (set(), set()), (path, value)
                for name, inner in value.items():
                    self.check(inner, form[name].form, (*path, name))


def paths(form: Form | None, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """All fields that a form has, with their way to it."""
    match form:
        case list():
            yield from paths(form[0], path)
        case dict():
            for name, field in form.items():
                yield (*path, name)
                yield from paths(field.form, (*path, name))


def test_the_table_of_routes_has_the_statuses_of_the_page() -> None:
    assert {name: set(route.answers) for name, route in TABLE.items()} == {
        name: wanted for name, (wanted, _) in ANSWERS.items()
    }


def test_the_page_has_an_answer_for_every_route() -> None:
    assert sorted(ANSWERS) == sorted(f"{method} {path}" for method, path, _ in ROUTES)


@pytest.mark.parametrize("route", ANSWERS)
def test_the_status_of_the_table_is_that_of_the_text(route: str) -> None:
    method, _, path = route.partition(" ")
    text = re.sub(r"```.*?```", "", SECTIONS[method, path], flags=re.DOTALL)
    stated = {int(found) for found in re.findall(r"\b(101|20[0-46]|30[34])\b", text)}
    assert stated <= ANSWERS[route][0]


@pytest.mark.parametrize(
    ("title", "form"),
    [("A job", "job"), ("Schedules", "schedule"), ("`POST /v1/leases`", "`POST /v1/leases`")],
)
def test_the_examples_have_the_fields_of_the_table(title: str, form: str) -> None:
    section = re.split(rf"^##+ {re.escape(title)}$", PAGE, flags=re.MULTILINE)[1]
    example = orjson.loads(section.partition("```json\n")[2].partition("```")[0])
    page = Page()
    page.check(example, FORMS.get(form) or Parser(ANSWERS[form.strip("`")][1].strip("`")).form(), (form,))


async def test_every_answer_is_as_the_page_says_and_the_page_says_nothing_else(
    broker: NatsServer, tmp_path: Path
) -> None:
    async with gateway(broker.url, tmp_path, **every_route.SETTINGS) as api:
        said = await every_route.everything(api)
    statuses: dict[str, set[int]] = defaultdict(set)
    page = Page()
    undeclared = []
    for one in said:
        route = TABLE[one.route]
        if one.status >= 400 and one.status not in ANSWERS[one.route][0]:
            page.check(one.value, "problem", ())
            if (one.status, one.value["code"]) not in refusals(route):
                undeclared.append((one.route, one.status, one.value["code"]))
            continue
        undeclared += list(faults(one, route.answers[one.status]))
        statuses[one.route].add(one.status)
        check(page, one)
    assert sorted(set(undeclared)) == []
    assert statuses == {route: wanted for route, (wanted, _) in ANSWERS.items()}
    documented = {path for name, form in FORMS.items() for path in paths(form, (name,))}
    for name, (_, answer) in ANSWERS.items():
        if answer.startswith("`{"):
            documented |= set(paths(Parser(answer.strip("`")).form(), (name,)))
    left = sorted(documented - page.seen - ELSEWHERE)
    assert left == [], left
    assert not ELSEWHERE - documented


def faults(said: Said, declared: Any) -> Iterator[tuple[str, int, str]]:
    """Where an answer is not of the type that the table of routes says, and which headers it does not say."""
    declared = declared.item if isinstance(declared, Media) else declared
    if isinstance(declared, OneOf):  # the one of them that is JSON, if any is
        declared = next((one for one in declared.types if not isinstance(one, Media)), None)
    if declared is not None and said.value is not None:
        try:
            msgspec.convert(said.value, list[declared] if isinstance(said.value, list) else declared)
        except msgspec.ValidationError as error:
            yield said.route, said.status, str(error)
    ours = {name.lower() for name in said.headers if name.startswith("Switchyard-") or name == "Location"}
    for name in ours - {name.lower() for name in TABLE[said.route].answer_headers}:
        yield said.route, said.status, name


def check(page: Page, said: Said) -> None:
    answer = ANSWERS[said.route][1]
    if answer in ("`job`", "`notice`"):
        assert "Switchyard-Seq" in said.headers, said
    if said.status in (201, 303) and "artifacts" not in said.route and "PUT" not in said.route:
        assert "Location" in said.headers, said
    if answer.startswith("lines"):
        for line in said.value:
            page.check(line, "line", ())
    elif answer.startswith("`") and said.status not in (204, 303, 304):
        assert said.value is not None, said
        page.check(said.value, Parser(answer.strip("`")).form(), (said.route,))
    elif not answer.startswith("what"):
        assert said.value is None, said
