"""Who comes to the document door, what opens it, and what it says of usage."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

import pydantic
import pytest

from switchyard.events.errors import InvalidError
from switchyard.services.gateway.app import running_app
from switchyard.services.gateway.doors.ilios.ids import document_id, uuid_of
from switchyard.services.ids import id_for_key, new_id
from switchyard.services.settings.older import ilios as older_ilios
from tests.broker.shared import SharedBroker
from tests.gateway.ilios.client import ID, Ilios
from tests.gateway.ilios.site import KEYS, House, house
from tests.gateway.rest import DEADLINE_S, Gateway, gateway

PATHS = ("/api/documents/status/" + "a" * 25, "/api/usage/summary")


async def test_keys_of_the_variable_are_keys_of_the_system(here: House) -> None:
    answer = await here.api.get("/v1/keys", token=here.api.token("tenant-admin"))
    assert [(one["name"], one["roles"]) for one in answer.json["keys"]] == [
        ("ilios-1", ["submitter"]), ("ilios-2", ["submitter"]),
    ]  # fmt: skip
    for key in KEYS:
        assert (await here.client(key).get("/api/usage/summary")).status == 200
        assert (await here.client(key).get("/v1/jobs")).status == 200  # they count at every door
    async with running_app(here.api.settings, here.api.nc):
        pass  # another gateway starts with the same keys
    again = await here.api.get("/v1/keys", token=here.api.token("tenant-admin"))
    assert len(again.json["keys"]) == 2


@pytest.mark.parametrize("path", PATHS)
async def test_who_has_no_key_is_refused_in_the_words_of_the_door(here: House, path: str) -> None:
    asked: dict[str, tuple[Ilios, dict[str, str]]] = {
        "no header": (here.client(None), {}),
        "basic": (here.client(None), {"Authorization": "Basic eDp5"}),
        "nobody's": (Ilios(here.api.http, here.api.url, "nobodys-key-0000001"), {}),
        "one of ours": (Ilios(here.api.http, here.api.url, "swy_" + "0" * 16 + "_" + "0" * 48), {}),
    }
    said = {}
    for name, (client, headers) in asked.items():
        answer = await client.call("GET", path, None, **headers)
        assert answer.status == 401
        said[name] = answer.json["error"]
    missing = "Missing or invalid authorization header"
    assert said == {
        "no header": missing, "basic": missing, "nobody's": "Invalid API key",
        "one of ours": "Invalid API key",
    }  # fmt: skip


async def test_an_open_door_lets_in_who_has_no_key(shared_broker: SharedBroker, tmp_path: Path) -> None:
    async with house(shared_broker, tmp_path, ilios_open=True, ilios_keys=None) as here:
        client = here.client(None)
        answer = await client.convert("a.pdf", b"text")
        assert (answer.status, answer.text) == (200, "text\n")
        job = await here.api.get(f"/v1/jobs/{uuid_of(answer.headers['X-Document-Id'])}")
        assert job.status == 200  # it is the door's tenant's
        assert (await Ilios(here.api.http, here.api.url, "x").get(PATHS[1])).status == 401


async def test_a_closed_door_is_not_there(shared_broker: SharedBroker, tmp_path: Path) -> None:
    async with gateway(shared_broker.url, tmp_path, ilios=False, ilios_keys="k" * 20) as api:
        for path in (*PATHS, "/v1/convert"):
            assert (await api.get(path)).status == 404
        assert (await api.get("/v1/jobs")).status == 200
        assert (await api.get("/v1/jobs", token="k" * 20)).status == 401


@pytest.mark.parametrize("keys", ["short", "a" * 20 + ",short", "with space in it 0000", "swy_" + "0" * 20])
async def test_a_key_that_can_be_guessed_or_confused_keeps_the_gateway_from_starting(
    api: Gateway, keys: str
) -> None:
    settings = api.settings.model_copy(update={"ilios_keys": pydantic.SecretStr(keys)})
    with pytest.raises(InvalidError, match="ilios_keys, or API_KEY: number") as refused:
        async with running_app(settings, api.nc):
            pass
    assert f"'{keys}'" not in str(refused.value)


async def test_variables_that_mean_nothing_here_are_refused_with_what_takes_their_place(
    api: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in (*older_ilios.REFUSED, older_ilios.REPLICA):
        with monkeypatch.context() as patched:
            patched.setenv(variable, "true")
            with pytest.raises(InvalidError, match=variable):
                async with running_app(api.settings, api.nc):
                    pass
            closed = api.settings.model_copy(update={"ilios": False})
            async with running_app(closed, api.nc):
                pass  # it may mean something to another program


def test_a_replica_that_is_off_is_what_holds_here() -> None:
    turso = dict.fromkeys(older_ilios.OF_REPLICAS, "x")
    assert older_ilios.faults({"USE_EMBEDDED_REPLICA": "false", **turso}) == []
    assert len(older_ilios.faults(turso)) == 3
    assert older_ilios.faults({"LOCAL_DB_PATH": "", "USE_EMBEDDED_REPLICA": "False"}) == []


async def test_what_was_used_is_what_the_ledger_says(here: House) -> None:
    client = here.client()
    await client.convert("a.pdf", b"one\ftwo\fthree")
    await client.convert("a.pdf", b"one\ftwo\fthree")  # stored
    await client.convert("b.pdf", b"broken")
    await here.client(KEYS[1]).convert("c.pdf", b"one")
    async with here.api.keeper(), asyncio.timeout(DEADLINE_S):
        while not (found := (await client.get("/api/usage/summary")).json)["summary"]["totalOperations"]:
            await asyncio.sleep(0.05)
    assert found["summary"] == {
        "totalDocuments": 1, "totalOperations": 1, "totalInputTokens": 0, "totalOutputTokens": 0,
        "totalCostCents": 0, "totalCostUSD": "0.00", "totalPages": 3.0, "totalCostMicroCents": 0,
    }  # fmt: skip
    assert found["filters"] == {}
    shares = (await client.get("/api/usage/breakdown")).json["breakdown"]
    assert [(one["operation"], one["count"]) for one in shares] == [("convert-immediate", 1)]
    query = "startDate=2020-01-01T00:00:00Z&endDate=2020-12-31T00:00:00.000Z"
    past = (await client.get(f"/api/usage/summary?{query}")).json
    assert (past["summary"]["totalOperations"], past["filters"]["startDate"]) == (
        0,
        "2020-01-01T00:00:00.000Z",
    )


@pytest.mark.parametrize("wrong", ["x", "2020", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "1e9", "%00"])
async def test_a_time_that_is_none_is_refused(here: House, wrong: str) -> None:
    for name in ("startDate", "endDate"):
        answer = await here.client().get(f"/api/usage/summary?{name}={wrong}")
        assert answer.status == 400, answer
        assert answer.json["error"] == "Failed to retrieve usage summary"
        assert name in answer.json["details"]


def test_ids_lead_back() -> None:
    for id_ in (
        new_id(),
        id_for_key("a", "b"),
        "0" * 8 + "-0000-0000-0000-" + "0" * 12,
        "f" * 8 + "-ffff-ffff-ffff-" + "f" * 12,
    ):
        document = document_id(id_)
        assert ID.fullmatch(document)
        assert len(document) == 25
        assert uuid_of(document) == id_
    assert uuid_of("z" * 25) is None
    assert uuid_of(secrets.token_hex(12)) is None
