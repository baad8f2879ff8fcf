"""Who gets in at the task door, and as whom."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import jwt
import pytest

from switchyard.events.errors import InvalidError
from tests.broker.shared import SharedBroker
from tests.gateway.rest import Gateway
from tests.gateway.tasks.site import SECRET, VIDEO, door, signed

TASKS = "/api/task"


async def test_a_users_token_makes_tasks_of_the_doors_tenant_and_counts_nowhere_else(api: Gateway) -> None:
    made = await api.call("POST", TASKS, VIDEO, token=signed("user"))
    assert made.status == 200
    task_id = made.json["taskId"]
    job = await api.get(f"/v1/jobs/{task_id.removeprefix('task-')}")
    assert (job.json["tenant"], job.json["kind"], job.json["state"]) == (api.tenant, "task", "queued")
    assert job.json["labels"] == {"task-api": "1"}
    for path in ("/v1/jobs", "/v1/whoami", "/api/v1/tasks"):
        assert (await api.get(path, token=signed("admin"))).status == 401


async def test_a_job_of_another_tenant_is_no_task(api: Gateway) -> None:
    made = await api.call("POST", "/v1/jobs", {"kind": "noop"}, token=api.token(tenant=api.stranger))
    answer = await api.get(f"{TASKS}/task-{made.json['id']}", token=signed("admin"))
    assert (answer.status, list(answer.json)) == (404, ["error", "code"])


async def test_tokens_and_keys_of_every_door_count_here_as_well(api: Gateway) -> None:
    made = await api.call("POST", TASKS, VIDEO)
    assert made.status == 200
    assert (await api.get(f"{TASKS}/{made.json['taskId']}", token=signed("user"))).status == 200
    viewer = await api.call("POST", TASKS, VIDEO, token=api.token("viewer"))
    assert (viewer.status, list(viewer.json)) == (403, ["error", "code"])


WRONG: dict[str, Callable[[], str]] = {
    "none": lambda: "invalid-token",
    "parts": lambda: "a.b.c",
    "secret": lambda: signed("user", secret="y" * 32),
    "ended": lambda: signed("user", exp=int(time.time()) - 10),
    "endless": lambda: signed("user", exp=None),
    "exp": lambda: signed("user", exp="soon"),
    "later": lambda: signed("user", nbf=int(time.time()) + 600),
    "sub": lambda: signed("user", sub="a b"),
    "roles": lambda: signed("user", roles="admin"),
    "role": lambda: signed("user", roles=[1]),
    "unsigned": lambda: jwt.encode({"sub": "ann", "exp": int(time.time()) + 600}, "", "none"),
    "algorithm": lambda: jwt.encode({"sub": "ann", "exp": int(time.time()) + 600}, "x" * 64, "HS512"),
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_what_does_not_count_is_answered_as_there(api: Gateway, wrong: str) -> None:
    answer = await api.call("POST", TASKS, VIDEO, token=WRONG[wrong]())
    assert (answer.status, answer.raw) == (401, b"Unauthorized")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer ")


async def test_a_request_without_a_token_is_unauthorized(api: Gateway) -> None:
    async with api.http.get(api.url + TASKS + "/task-1") as answer:
        assert (answer.status, await answer.text()) == (401, "Unauthorized")


async def test_a_token_without_end_counts_where_a_setting_says_so(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with door(shared_broker, tmp_path, task_endless_tokens=True) as api:
        assert (await api.call("POST", TASKS, VIDEO, token=signed("user", exp=None))).status == 200


async def test_a_secret_that_can_be_guessed_is_refused_at_start(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    with pytest.raises(ExceptionGroup) as raised:
        async with door(shared_broker, tmp_path, task_jwt_secret="short"):
            raise AssertionError("unreachable")
    assert raised.group_contains(InvalidError, match="JWT_SECRET: at least 16 characters")


async def test_without_a_secret_no_such_token_counts(shared_broker: SharedBroker, tmp_path: Path) -> None:
    async with door(shared_broker, tmp_path, task_jwt_secret=None) as api:
        assert (await api.call("POST", TASKS, VIDEO, token=signed("admin"))).status == 401
        assert (await api.call("POST", TASKS, VIDEO, token=signed("admin", secret=SECRET))).status == 401
