"""Every route, every role, and another tenant: who is let in, and what nobody else sees."""

from __future__ import annotations

import asyncio
import re
import secrets
from pathlib import Path
from typing import Any

import pytest

from switchyard.services.broker.server.server import NatsServer
from switchyard.services.gateway.app import running_app
from switchyard.services.ids import new_id
from tests.gateway.leases.test_leases import Worker, until_in_registry
from tests.gateway.octopoid.client import Octopoid
from tests.gateway.rest import Gateway, gateway
from tests.gateway.routes import DOORS, EVERYBODY, OPERATORS, is_refused, knock

pytestmark = pytest.mark.usefixtures("many_may_fail")

NAMED = re.compile(r"\{(\w+)\}")
ROLES = sorted(EVERYBODY)
SAMPLES = {"stream": "JOBS", "seq": "1"}
OF_ALL = {
    "/metrics", "/v1/workers", "/v1/queues", "/v1/usage", "/v1/controls", "/v1/workers/{id}", "/v1/limits",
    "/v1/limits/{name}", "/v1/demand", "/v1/usage/summary", "/v1/usage/bill", "/v1/quotas", "/v1/quotas/{of}",
}  # fmt: skip
"""Where an operator may learn that another tenant has workers and jobs."""
OPERATED = {name for name, door in DOORS.items() if door.who == OPERATORS}
"""What an operator does for every tenant."""


async def test_every_route_of_the_gateway_has_its_doorkeeper(api: Gateway) -> None:
    async with running_app(api.settings, api.nc) as app:
        table = {
            f"{route.method} {route.resource.canonical}"
            for route in app.router.routes()
            if route.resource is not None and route.method != "HEAD"
        }
    assert table == set(DOORS)


def filled(path: str, **names: str) -> str:
    return NAMED.sub(lambda found: names.get(found[1], new_id()), path)


async def test_every_route_lets_in_the_roles_that_it_is_for_and_no_other(api: Gateway) -> None:
    wrong = []
    for name, door in DOORS.items():
        path = filled(name.partition(" ")[2], stream="JOBS", seq="999999", kind=f"k{api.tenant}", lane="l")
        for role in ROLES:
            answer = await knock(api, name, path, api.token(role))
            refused = is_refused(answer)
            if refused == (role in door.who) or answer.status >= 500:
                wrong.append((name, role, answer.status, answer.raw[:200]))
        # A browser that opens a WebSocket brings its token in the first message.
        for token in ("nonsense",) if name == "GET /v1/ws" else (None, "nonsense"):
            answer = await knock(api, name, path, token)
            if (answer.status == 401) == (door.who == EVERYBODY and not door.known):
                wrong.append((name, str(token), answer.status, answer.raw[:200]))
    assert wrong == []


class House:
    """A tenant with one of everything, in which `secret` stands wherever its users may write."""

    def __init__(self, api: Gateway) -> None:
        self.api = api
        self.tenant = f"acme-{secrets.token_hex(4)}"
        self.secret = f"secret-{secrets.token_hex(6)}"
        self.kind = f"kind-{secrets.token_hex(4)}"
        self.octo = Octopoid(api, f"scope-{secrets.token_hex(4)}")
        self.names: dict[str, str] = {}
        self.lease_token = ""

    def token(self, *roles: str) -> str:
        return self.api.token(*roles, tenant=self.tenant)

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        answer = await self.api.call(method, path, body, token=self.token("admin"), **headers)
        assert answer.status < 300, answer
        return answer.json if answer.raw else None

    async def furnish(self) -> None:
        file = await self.call("POST", f"/v1/files?name={self.secret}", self.secret.encode())
        job = {
            "kind": self.kind,
            "payload": {"x": self.secret},
            "labels": {"x": self.secret},
            "limits": [self.kind],
        }
        await self.call("PUT", f"/v1/limits/{self.kind}", {"concurrency": 9})
        key = await self.call("POST", "/v1/keys", {"name": self.secret, "roles": ["viewer"]})
        made = await self.call("POST", "/v1/jobs", {**job, "priority": 1})
        schedule = {"every_s": 3600, "job": job}
        await self.call("PUT", f"/v1/schedules/{self.kind}", schedule)
        worker = Worker(self.api, "w", kinds=[self.kind], capabilities={"x": self.secret})
        worker.token = self.token("worker")
        await self.call("POST", "/v1/jobs", {**job, "priority": 99})
        claimed = await worker.claim(wait_s=10)
        assert claimed.status == 201, claimed
        self.lease_token = claimed.json["lease"]["token"]
        await self.call("POST", "/v1/jobs", {**job, "priority": 98})
        proposed = await worker.claim(wait_s=10)
        assert (await worker.say(proposed, "propose", {"result": self.secret})).status == 200
        await self.call("POST", "/v1/jobs", {**job, "priority": 97})
        dead = await worker.claim(wait_s=10)
        error = {"code": self.kind, "message": self.secret, "retryable": False}
        assert (await worker.say(dead, "fail", {"error": error})).status == 200
        async with asyncio.timeout(60):
            while self.secret not in str(await self.call("GET", "/v1/workers?capabilities=true")):
                pass
        me = f"rest.{self.tenant}.w"
        await self.call("POST", f"/v1/workers/{me}/pause")
        await self.call("POST", f"/v1/kinds/{self.kind}/pause")
        assert (await self.octo.register()).status == 201
        await self.octo.create("t", title=self.secret)
        for path, body in (
            ("/projects", {"id": "p", "title": self.secret}),
            ("/messages", {"task_id": "t", "from_actor": "a", "type": "t", "content": self.secret}),
            ("/drafts", {"title": self.secret, "author": "a"}),
            ("/actions", {"entity_type": "t", "entity_id": "i", "label": self.secret}),
        ):
            assert (await self.octo.call("POST", path, body)).status == 201
        flow = {"states": ["incoming", "claimed", "provisional", "done", "failed"], "transitions": []}
        assert (await self.octo.call("PUT", f"/flows/{self.kind}", flow)).status < 300
        actions = (await self.octo.call("GET", "/actions")).json["actions"]
        self.names = {
            "/v1/jobs": made["id"], "/v1/reviews": proposed.json["job"]["id"], "/v1/schedules": self.kind,
            "/v1/workers": me, "/v1/files": file["id"], "/v1/leases": claimed.json["lease"]["id"],
            "/v1/limits": self.kind, "/v1/keys": key["id"], "/api/v1/tasks": "t", "/api/v1/projects": "p",
            "/api/v1/orchestrators": "prod-m1", "/api/v1/actions": str(actions[0]["id"]),
            "/api/v1/flows": self.kind,
        }  # fmt: skip
        await self.api.caught_up()
        lane = next(
            queue["lane"]
            for queue in (await self.call("GET", f"/v1/queues?tenant={self.tenant}"))["queues"]
            if queue["kind"] == self.kind
        )
        self.names |= {"lane": lane, "kind": self.kind, "scope": self.octo.scope}

    def path(self, canonical: str) -> str:
        def name(found: re.Match[str]) -> str:
            root = canonical[: found.start() - 1]
            return self.names.get(root) or self.names.get(found[1]) or SAMPLES.get(found[1], "x")

        return NAMED.sub(name, canonical)

    async def inventory(self) -> Any:
        """All that a stranger must not have changed."""
        shown = [
            await self.call("GET", path)
            for path in (
                "/v1/jobs", "/v1/files", "/v1/schedules", "/v1/limits", "/v1/dead-letters", "/v1/reviews",
                "/v1/controls", "/v1/keys",
            )
        ]  # fmt: skip
        for path in ("/tasks/t", "/projects", "/drafts", "/actions", "/flows", "/orchestrators/prod-m1"):
            answer = await self.octo.call("GET", path)
            assert answer.status == 200, (path, answer)
            shown.append(answer.json)
        return shown


@pytest.mark.parametrize("tenant", ["own query", "named"])
async def test_no_role_of_another_tenant_sees_or_touches_anything(
    broker: NatsServer, tmp_path: Path, tenant: str
) -> None:
    async with gateway(broker.url, tmp_path) as api:
        house = House(api)
        await house.furnish()
        await until_settled(house)
        before = await house.inventory()
        stranger = Octopoid(api)
        assert (await stranger.register(machine="m9")).status == 201
        callers = {role: api.token(role) for role in ROLES if role != "admin"}
        callers["a scope's key"] = stranger.key
        query = "" if tenant == "own query" else f"tenant={house.tenant}"
        wrong: list[object] = []
        for name, door in sorted(DOORS.items(), key=lambda item: item[1].own):
            canonical = name.partition(" ")[2]
            path = house.path(canonical)
            asked = query
            if query and canonical.startswith("/api/v1/"):
                asked = f"scope={house.octo.scope}"
            for role, token in callers.items():
                if role == "operator" and name in OPERATED:
                    continue
                headers = {"Switchyard-Lease-Token": house.lease_token}
                answer = await knock(api, name, path, token, query=asked, headers=headers)
                marks = {house.secret, house.kind, house.tenant, house.octo.scope}
                if role == "operator" and canonical in OF_ALL:
                    marks = set() if canonical == "/v1/workers/{id}" else {house.secret}  # its capabilities
                said = answer.raw.decode().replace(path, "")
                leaked = [mark for mark in marks if mark in said and mark not in f"{path}?{asked}"]
                done = "{" in canonical and answer.status < 300 and not door.own
                done = done and not (role == "operator" and canonical in OF_ALL)
                if leaked or done or answer.status >= 500:
                    wrong.append((name, role, answer.status, leaked, answer.raw[:300]))
        assert wrong == []
        assert await house.inventory() == before


async def until_settled(house: House) -> None:
    """The read model has what the log has, and the broker has said its time."""
    async with asyncio.timeout(60):
        while (await house.api.get("/readyz")).status != 200:
            await asyncio.sleep(0.05)
        while True:
            states = sorted(job["state"] for job in (await house.call("GET", "/v1/jobs"))["jobs"])
            if states == ["dead", "queued", "review", "running"]:
                return


async def test_workers_are_shown_to_their_own_tenant_and_to_operators(
    broker: NatsServer, tmp_path: Path
) -> None:
    async with gateway(broker.url, tmp_path) as api:
        for number in range(4):
            mine, other = Worker(api, f"m{number}"), Worker(api, f"o{number}")
            other.token = api.token("worker", tenant=api.stranger)
            await mine.claim()
            await other.claim()
        await until_in_registry(api, Worker(api, "m3"))
        operator = api.token("operator")
        async with asyncio.timeout(60):
            while len((await api.get("/v1/workers", token=operator)).json["workers"]) < 8:
                pass
        for token, wanted in ((api.token("viewer"), 4), (operator, 8), (api.token("admin"), 8)):
            seen: list[str] = []
            cursor: str | None = ""
            while cursor is not None:
                page = (await api.get(f"/v1/workers?limit=3&cursor={cursor}", token=token)).json
                assert page["workers"]
                seen += [worker["id"] for worker in page["workers"]]
                cursor = page["cursor"]
            assert len(seen) == wanted
        theirs = f"/v1/workers/rest.{api.stranger}.o1"
        assert (await api.get(theirs, token=api.token("viewer"))).status == 404
        assert (await api.get(theirs, token=operator)).status == 200


async def test_metrics_and_queues_count_what_a_tenant_may_know(broker: NatsServer, tmp_path: Path) -> None:
    async with gateway(broker.url, tmp_path) as api:
        await api.submit(kind="mine")
        await api.call(
            "POST", "/v1/jobs", {"kind": "theirs"}, token=api.token("submitter", tenant=api.stranger)
        )
        worker = Worker(api, kinds=["mine"])
        worker.token = api.token("worker", tenant=api.stranger)
        await worker.claim()
        operator, viewer = api.token("operator"), api.token("viewer")
        async with asyncio.timeout(60):
            while (
                'switchyard_workers{part="projector",state="running"} 1.0'
                not in (await api.get("/metrics", token=operator)).raw.decode()
                or b'"theirs"' not in (await api.get("/metrics", token=operator)).raw
            ):
                pass
        await api.caught_up()
        whole = (await api.get("/metrics", token=operator)).raw.decode()
        own = (await api.get("/metrics", token=viewer)).raw.decode()
        assert 'kind="mine"' in own
        assert "theirs" not in own
        assert "running" not in own
        assert "process_" not in own
        assert 'kind="mine"' in whole
        (queue,) = (await api.get("/v1/queues", token=viewer)).json["queues"]
        assert (queue["kind"], queue["fitting_workers"]) == ("mine", 0)
        assert len((await api.get("/v1/queues?tenant=*", token=operator)).json["queues"]) == 2
        assert (await api.get("/v1/jobs?tenant=*", token=operator)).status == 403
