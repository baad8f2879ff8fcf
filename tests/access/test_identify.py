"""Identifiers: asked in their order; what one refuses, no later one is asked for."""

from __future__ import annotations

import contextvars
import io
import math
import os

import orjson
import pytest
import structlog

from switchyard.events.errors import ForbiddenError
from switchyard.services import log
from switchyard.services.access.errors import UnauthenticatedError
from switchyard.services.access.identify import Identifiers
from switchyard.services.access.principal import Principal, Role, implied
from switchyard.services.distribution import version
from switchyard.services.gateway.http.problems import problem_of
from switchyard.services.visible import redacted

KEY = f"swy_{'0a' * 8}_{'1b' * 24}"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJlc2lnbmF0dXJl"
SCOPE_KEY = f"oct_{'3c' * 32}"


def principal(name: str, *roles: str, tenant: str = "acme") -> Principal:
    named = frozenset(Role(role) for role in roles or ("viewer",))
    return Principal(name, tenant, implied(named), "", math.inf, named=named)


class Knows:
    """Knows what begins with a word; refuses what ends with `bad`."""

    def __init__(self, word: str) -> None:
        self.word = word
        self.asked = 0

    async def identify(self, secret: str) -> Principal | None:
        self.asked += 1
        if not secret.startswith(self.word):
            return None
        if secret.endswith("bad"):
            raise UnauthenticatedError("mine, and bad")
        return principal(self.word)


async def test_first_that_knows_it_answers() -> None:
    one, two, three = Knows("a"), Knows("ab"), Knows("b")
    found = Identifiers([one, two, three])
    assert (await found.identify("abc")).subject == "a"
    assert (one.asked, two.asked, three.asked) == (1, 0, 0)
    assert (await found.identify("bc")).subject == "b"
    assert (one.asked, two.asked, three.asked) == (2, 1, 1)


async def test_mine_and_bad_ends_it() -> None:
    one, two = Knows("a"), Knows("a")
    with pytest.raises(UnauthenticatedError, match="mine, and bad"):
        await Identifiers([one, two]).identify("a bad")
    assert two.asked == 0


@pytest.mark.parametrize("secret", ["", "x", "x" * 20_000])
async def test_what_nobody_knows_is_nobodys(secret: str) -> None:
    with pytest.raises(UnauthenticatedError) as error:
        await Identifiers([Knows("a")]).identify(secret)
    assert error.value.code == "token_invalid"


async def test_what_is_far_too_long_is_not_even_looked_at() -> None:
    one = Knows("a")
    with pytest.raises(UnauthenticatedError):
        await Identifiers([one]).identify("a" * 20_000)
    assert one.asked == 0


# --- Roles


def test_roles_imply_what_they_did_and_tenant_admin_all_of_its_tenant() -> None:
    viewer = Role.VIEWER
    for role in (Role.SUBMITTER, Role.WORKER, Role.REVIEWER, Role.OPERATOR):
        assert implied([role]) == {role, viewer}
    assert implied([Role.REGISTRAR]) == {Role.REGISTRAR}
    assert implied([Role.REGISTRAR, Role.WORKER]) == {Role.REGISTRAR, Role.WORKER, viewer}
    assert implied([Role.ADMIN]) == frozenset(Role)
    of_tenant = {Role.SUBMITTER, Role.WORKER, Role.REVIEWER, Role.TENANT_ADMIN, viewer}
    assert implied([Role.TENANT_ADMIN]) == of_tenant


def test_operator_has_in_another_tenant_what_its_roles_name() -> None:
    alone = principal("o", "operator").acting_for("other")
    assert alone.tenant == "other"
    assert alone.roles == {Role.OPERATOR}
    both = principal("o", "operator", "submitter").acting_for("other")
    assert both.roles == {Role.OPERATOR, Role.SUBMITTER, Role.VIEWER}
    assert principal("a", "admin").acting_for("other").roles == frozenset(Role)
    assert principal("o", "operator").sees("third")
    assert not alone.sees("third")
    for role in ("viewer", "submitter", "worker", "reviewer", "tenant-admin", "registrar"):
        with pytest.raises(ForbiddenError):
            principal("x", role).acting_for("other")
        assert principal("x", role).acting_for("acme").tenant == "acme"


# --- Secrets stay unsaid


@pytest.mark.parametrize("secret", [KEY, JWT, SCOPE_KEY, KEY[:40], SCOPE_KEY[:30], JWT[:60]])
def test_secrets_are_cut_out_of_what_is_said(secret: str) -> None:
    said = redacted(f"token {secret} is wrong: /v1/jobs/{secret}?x={secret}")
    assert secret not in said
    assert secret[-16:] not in said
    assert said.count("***") == 3


@pytest.mark.parametrize(
    "text", ["", "a plain text", f"swy_{'0a' * 8}", "factor_oct_x", "eyJ", "octo_puss", "swy_x_y", "a.b.c"]
)
def test_other_text_stays_as_it_is(text: str) -> None:
    assert redacted(text) == text


def test_problems_hold_no_secret() -> None:
    problem = problem_of(UnauthenticatedError(f"no such key {KEY}"))
    said = str(problem.document(f"/v1/keys/{KEY}")) + str(problem.brief())
    assert KEY[-40:] not in said
    assert KEY[:20] in said


def failed_with(secret: str) -> ValueError:
    try:
        int(f"wrong: {secret}")
    except ValueError as error:
        return error
    raise AssertionError


@pytest.mark.parametrize("form", ["json", "console"])
def test_logs_hold_no_secret(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    lines = io.StringIO()
    monkeypatch.setattr(log, "_own_stderr", lambda: lines)

    def write() -> None:
        log.name_part("keeper")
        structlog.get_logger().warning("request_failed", error=f"of {JWT}", exc_info=failed_with(KEY))

    config = structlog.get_config()
    try:
        log.configure(as_json=form == "json")
        contextvars.copy_context().run(write)
    finally:
        structlog.configure(**config)
    said = lines.getvalue()
    assert "request_failed" in said
    assert KEY[-40:] not in said
    assert JWT[-20:] not in said
    assert "\x1b" not in said
    if form == "json":
        line = orjson.loads(said)
        assert (line["part"], line["pid"], line["version"]) == ("keeper", os.getpid(), version())
