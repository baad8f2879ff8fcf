"""An API key opens what the description says that its role opens, of its own tenant alone."""

from __future__ import annotations

import pytest

from switchyard.services.access.principal import Role, implied
from tests.gateway.keys.site import make
from tests.gateway.openapi.described import operations
from tests.gateway.rest import Gateway
from tests.gateway.routes import DOORS, is_refused, knock
from tests.gateway.test_doors import filled

pytestmark = pytest.mark.usefixtures("many_may_fail")

OPERATIONS = dict(operations())


def lets_in(name: str, roles: frozenset[Role]) -> bool:
    """Whether the description says that a key with some roles opens an operation."""
    one = OPERATIONS[name]
    ways = [way["apiKey"] for way in one["security"] if "apiKey" in way]
    return not one["security"] or any(not way or not roles.isdisjoint(map(Role, way)) for way in ways)


async def test_key_of_every_role_opens_what_the_description_says(api: Gateway) -> None:
    wrong = []
    # A WebSocket judges its key inside the connection, a ticket is one itself, and nothing is ready alone.
    alone = "GET /v1/ws", "GET /readyz", "GET /health"
    names = [name for name in DOORS if name not in alone and "{ticket}" not in name]
    for role in Role:
        key = (await make(api, role.value)).secret
        for name in names:
            path = filled(
                name.partition(" ")[2], stream="JOBS", seq="999999", kind=f"k{api.tenant}", lane="l"
            )
            answer = await knock(api, name, path, None, headers={"X-API-Key": key})
            refused = is_refused(answer)
            if refused == lets_in(name, implied([role])) or answer.status >= 500:
                wrong.append((name, role.value, answer.status, answer.raw[:100]))
    assert wrong == [], wrong[:9]


async def test_key_that_names_another_tenant_is_refused_on_every_route(api: Gateway) -> None:
    wrong = []
    for role in set(Role) - {Role.OPERATOR, Role.ADMIN}:
        key = (await make(api, role.value)).secret
        for name, one in OPERATIONS.items():
            if not one["security"] or name == "GET /v1/ws":
                continue
            path = filled(
                name.partition(" ")[2], stream="JOBS", seq="1", kind="noop", lane="l", id="t", what="queues"
            )
            which = "kind=x&tenant" if name == "GET /v1/events/stream" else "tenant"
            headers = {"X-API-Key": key}
            answer = await knock(api, name, path, None, query=f"{which}={api.stranger}", headers=headers)
            if answer.status not in (400, 401, 403):
                wrong.append((name, role.value, answer.status, answer.raw[:100]))
    assert wrong == [], wrong[:9]
