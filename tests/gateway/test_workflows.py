"""The routes of workflows: put, read, and made into jobs whose inputs are judged by name."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from switchyard.services.broker import jetstream
from switchyard.services.broker.reader import read_range
from switchyard.services.ids import new_id
from tests.broker.shared import SharedBroker
from tests.gateway.rest import Answer, Gateway, gateway

pytestmark = pytest.mark.shared_gateway

GRAPH: dict[str, Any] = {
    "3": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 1, "steps": 20, "cfg": 7.5, "sampler_name": "euler", "scheduler": "normal", "denoise": 1,
            "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0],
        },
    },
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd15.safetensors"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 512, "batch_size": 1}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a dog", "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry", "clip": ["4", 1]}},
    "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "out"}},
}  # fmt: skip
INPUTS: dict[str, Any] = {
    "prompt": {"type": "string", "to": ["/prompt/6/inputs/text"], "required": True, "max_chars": 500},
    "steps": {"type": "integer", "to": ["/prompt/3/inputs/steps"], "min": 1, "max": 100},
    "cfg": {"type": "number", "to": ["/prompt/3/inputs/cfg"], "min": 0, "max": 30, "default": 6.5},
    "sampler": {"type": "string", "to": ["/prompt/3/inputs/sampler_name"], "choices": ["euler", "ddim"]},
    "seed": {"type": "seed", "to": ["/prompt/3/inputs/seed"]},
    "size": {"type": "integer", "to": ["/prompt/5/inputs/width", "/prompt/5/inputs/height"], "min": 16},
}
TEXT_TO_IMAGE: dict[str, Any] = {
    "kind": "comfyui", "title": "Text to image", "graph": GRAPH, "inputs": INPUTS,
    "job": {"priority": 60, "labels": {"team": "art"}, "max_attempts": 2}, "count": {"max": 8},
}  # fmt: skip
PLAIN: dict[str, Any] = {
    "kind": "noop", "payload": {"text": "hi", "list": [1, 2]},
    "inputs": {"text": {"type": "string", "to": ["/text"]}, "second": {"type": "json", "to": ["/list/1"]}},
}  # fmt: skip


async def put(api: Gateway, name: str, body: dict[str, Any], status: int = 201) -> dict[str, Any]:
    answer = await api.call("PUT", f"/v1/workflows/{name}", body)
    assert answer.status == status, answer
    found: dict[str, Any] = answer.json
    return found


async def submitted(api: Gateway, **fields: Any) -> Answer:
    return await api.call("POST", "/v1/jobs", fields)


async def payload_of(api: Gateway, job_id: str) -> dict[str, Any]:
    first = (await api.get(f"/v1/jobs/{job_id}/events")).json["events"][0]
    found: dict[str, Any] = first["data"]["job"]
    return found


async def test_a_text_to_image_graph_becomes_a_job(api: Gateway) -> None:
    made = await put(api, "t2i", TEXT_TO_IMAGE)
    assert (made["version"], made["latest"], made["kind"]) == (1, 1, "comfyui")
    answer = await submitted(api, workflow="t2i@1", inputs={"prompt": "a red cat", "steps": 30, "size": 256})
    assert answer.status == 201, answer
    job = answer.json
    assert (job["kind"], job["workflow"], job["priority"], job["max_attempts"]) == ("comfyui", "t2i@1", 60, 2)
    assert job["labels"] == {"team": "art"}
    seed = job["inputs"]["seed"]
    assert 0 <= seed < 2**32
    assert job["inputs"] == {"prompt": "a red cat", "steps": 30, "size": 256, "cfg": 6.5, "seed": seed}
    spec = await payload_of(api, job["id"])
    graph = spec["payload"]["prompt"]
    assert graph["3"]["inputs"] | {"seed": 0} == GRAPH["3"]["inputs"] | {"steps": 30, "cfg": 6.5, "seed": 0}
    assert graph["3"]["inputs"]["seed"] == seed
    assert (graph["6"]["inputs"]["text"], graph["7"]["inputs"]["text"]) == ("a red cat", "blurry")
    assert (graph["5"]["inputs"]["width"], graph["5"]["inputs"]["height"]) == (256, 256)
    # What the graph needs of a worker is derived as for any other job.
    assert "sd15.safetensors" in orjson.dumps(spec["requires"]).decode()
    read = (await api.get(f"/v1/jobs/{job['id']}")).json
    assert (read["workflow"], read["inputs"]) == ("t2i@1", job["inputs"])


@pytest.mark.parametrize(
    ("inputs", "field"),
    [
        ({}, "inputs.prompt"),
        ({"prompt": 5}, "inputs.prompt"),
        ({"prompt": None}, "inputs.prompt"),
        ({"prompt": "x" * 501}, "inputs.prompt"),
        ({"prompt": "x", "steps": 0}, "inputs.steps"),
        ({"prompt": "x", "steps": 101}, "inputs.steps"),
        ({"prompt": "x", "steps": 1.5}, "inputs.steps"),
        ({"prompt": "x", "steps": True}, "inputs.steps"),
        ({"prompt": "x", "steps": "20"}, "inputs.steps"),
        ({"prompt": "x", "cfg": 31}, "inputs.cfg"),
        ({"prompt": "x", "sampler": "nope"}, "inputs.sampler"),
        ({"prompt": "x", "seed": -2}, "inputs.seed"),
        ({"prompt": "x", "seed": 2**53}, "inputs.seed"),
        ({"prompt": "x", "seed": "1"}, "inputs.seed"),
        ({"prompt": "x", "stops": 1}, "inputs.stops"),
        ({"prompt": "x", "../3": 1}, "inputs.../3"),
    ],
)
async def test_a_bad_input_is_named(api: Gateway, inputs: dict[str, Any], field: str) -> None:
    await put(api, "t2i", TEXT_TO_IMAGE)
    answer = await submitted(api, workflow="t2i", inputs=inputs)
    assert answer.status == 422, answer
    assert answer.json["field"] == field, answer


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"kind": "No Kind", "graph": None, "payload": {}, "inputs": {}}, "kind"),
        ({"payload": {}}, "payload"),
        ({"graph": None}, "payload"),
        ({"kind": "noop"}, "graph"),
        ({"object_info": {}, "graph": None, "payload": {}}, "object_info"),
        ({"graph": {"nodes": [], "links": []}}, "graph"),
        ({"graph": {"nodes": "x", "links": []}, "inputs": {}}, "payload.prompt"),
        ({"graph": {"1": {"class_type": "X"}}, "inputs": {}}, "payload.prompt.1.inputs"),
        ({"inputs": {"a": {"type": "text", "to": ["/prompt/6"]}}}, "inputs"),
        ({"inputs": {"a b": {"type": "string", "to": ["/prompt/6"]}}}, "inputs"),
        ({"inputs": {"a": {"type": "string", "to": []}}}, "inputs"),
        ({"inputs": {"a": {"type": "string", "to": ["prompt"]}}}, "inputs"),
        ({"inputs": {"a": {"type": "string", "to": ["/prompt/66/inputs/text"]}}}, "inputs.a.to[0]"),
        ({"inputs": {"a": {"type": "string", "to": ["/prompt/6/inputs/clip/7"]}}}, "inputs.a.to[0]"),
        ({"inputs": {"a": {"type": "string", "to": ["/prompt/6/inputs/clip/00"]}}}, "inputs.a.to[0]"),
        ({"inputs": {"a": INPUTS["steps"], "b": INPUTS["steps"]}}, "inputs.b.to[0]"),
        (
            {"inputs": {"a": {"type": "json", "to": ["/prompt/3"]}, "b": INPUTS["steps"]}},
            "inputs.b.to[0]",
        ),
        ({"inputs": {"a": INPUTS["steps"] | {"default": 500}}}, "inputs.a.default"),
        ({"inputs": {"a": INPUTS["steps"] | {"min": 200}}}, "inputs.a.min"),
        ({"inputs": {"a": INPUTS["steps"] | {"min": 1.5}}}, "inputs.a.min"),
        ({"inputs": {"a": INPUTS["prompt"] | {"min": 1}}}, "inputs.a.min"),
        ({"inputs": {"a": INPUTS["prompt"] | {"default": "x"}}}, "inputs.a.default"),
        ({"inputs": {"a": INPUTS["sampler"] | {"choices": ["euler", 5]}}}, "inputs.a.choices[1]"),
        ({"inputs": {"a": INPUTS["sampler"] | {"choices_from": "x"}}}, "inputs.a.choices"),
        ({"inputs": {"a": INPUTS["seed"] | {"max": 2**60}}}, "inputs.a.max"),
        ({"inputs": {"a": INPUTS["steps"] | {"choices_from": "object_info"}}}, "inputs.a.choices_from"),
        ({"inputs": {"a": INPUTS["seed"] | {"required": True}}}, "inputs.a.required"),
        ({"inputs": {"a": INPUTS["seed"] | {"choices": [1]}}}, "inputs.a.type"),
        ({"job": {"payload": {}}}, "job.payload"),
        ({"job": {"priority": 500}}, "job.priority"),
        ({"job": {"delay_s": 5}}, "job.delay_s"),
        ({"job": {"nope": 5}}, "job.nope"),
        ({"count": {"max": 101}}, "count.max"),
        ({"count": {"max": 2, "default": 3}}, "count.default"),
        ({"more": 1}, "more"),
    ],
)  # fmt: skip
async def test_a_template_that_cannot_make_jobs_is_refused_by_field(
    api: Gateway, change: dict[str, Any], field: str
) -> None:
    answer = await api.call("PUT", "/v1/workflows/bad", TEXT_TO_IMAGE | change)
    assert answer.status == 422, answer
    assert answer.json["field"].startswith(field), answer
    assert (await api.get("/v1/workflows/bad")).status == 404


async def test_versions_never_change_and_latest_is_the_newest(api: Gateway) -> None:
    first = await put(api, "w", PLAIN)
    assert (await put(api, "w", PLAIN, status=200))["version"] == 1, "the same again is the same"
    second = await put(api, "w", PLAIN | {"payload": {"text": "ho", "list": [1, 2]}})
    assert (first["version"], second["version"]) == (1, 2)
    assert (await api.get("/v1/workflows/w@1")).json["payload"]["text"] == "hi"
    for name in ("w", "w@2", "w@latest"):
        assert (await api.get(f"/v1/workflows/{name}")).json["payload"]["text"] == "ho"
    assert (await api.get("/v1/workflows/w/versions")).json == {"name": "w", "versions": [1, 2]}
    jobs = [(await submitted(api, workflow=name)).json for name in ("w@1", "w", "w@latest", "w@2")]
    assert [job["workflow"] for job in jobs] == ["w@1", "w@2", "w@2", "w@2"]
    assert (await payload_of(api, jobs[0]["id"]))["payload"] == {"text": "hi", "list": [1, 2]}
    assert (await api.get("/v1/workflows")).json["workflows"][0]["latest"] == 2


async def test_a_deleted_workflow_is_gone_and_its_numbers_are_not_used_again(api: Gateway) -> None:
    await put(api, "w", PLAIN)
    job = (await submitted(api, workflow="w")).json
    assert (await api.call("DELETE", "/v1/workflows/w")).status == 204
    for path in ("/v1/workflows/w", "/v1/workflows/w@1", "/v1/workflows/w/versions"):
        assert (await api.get(path)).status == 404
    assert (await api.call("DELETE", "/v1/workflows/w")).status == 404
    refused = await submitted(api, workflow="w@1")
    assert (refused.status, refused.json["code"], refused.json["field"]) == (
        422,
        "unknown_workflow",
        "workflow",
    )
    assert (await api.get("/v1/workflows")).json["workflows"] == []
    assert (await put(api, "w", PLAIN))["version"] == 2
    assert (await submitted(api, workflow="w@1")).status == 422
    again = await api.call("POST", f"/v1/jobs/{job['id']}/again")
    assert (again.status, again.json["workflow"]) == (201, "w@1")


async def test_writers_at_once_make_a_version_each(shared_broker: SharedBroker, tmp_path: Path) -> None:
    async with (
        gateway(shared_broker.url, tmp_path / "a") as one,
        gateway(shared_broker.url, tmp_path / "b") as two,
    ):
        two.tenant = one.tenant
        bodies = [PLAIN | {"title": f"{number}"} for number in range(6)]
        made = await asyncio.gather(*(put((one, two)[n % 2], "w", body) for n, body in enumerate(bodies)))
        numbers = sorted(version["version"] for version in made)
        assert len(set(numbers)) == len(bodies)
        for version in made:
            read = (await one.get(f"/v1/workflows/w@{version['version']}")).json
            assert read["title"] == version["title"]
        assert (await two.get("/v1/workflows/w")).json["version"] == numbers[-1]


async def test_writers_of_the_same_at_once_make_one_version(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with (
        gateway(shared_broker.url, tmp_path / "a") as one,
        gateway(shared_broker.url, tmp_path / "b") as two,
    ):
        two.tenant = one.tenant
        for number in range(1, 9):
            body = PLAIN | {"title": f"{number}"}
            answers = await asyncio.gather(
                *((one, two)[n % 2].call("PUT", "/v1/workflows/w", body) for n in range(8))
            )
            assert {answer.json["version"] for answer in answers} == {number}
            assert sorted(answer.status for answer in answers) == [200] * 7 + [201]
        assert (await one.get("/v1/workflows/w/versions")).json["versions"] == list(range(1, 9))


async def test_a_cursor_that_no_page_has_given_is_refused(api: Gateway) -> None:
    await put(api, "w", PLAIN)
    for path in ("/v1/workflows", "/v1/schedules"):
        for cursor in ("", "W10", "%00", "a%20b", "x" * 64):
            refused = await api.get(f"{path}?cursor={cursor}")
            found = refused.status, refused.json["code"], refused.json["field"]
            assert found == (400, "invalid_parameter", "cursor"), cursor
        assert (await api.get(f"{path}?cursor=x")).status == 200


async def test_one_tenant_sees_nothing_of_anothers(api: Gateway) -> None:
    await put(api, "w", PLAIN)
    token = api.token(tenant="other")
    for method, path, body in (
        ("GET", "/v1/workflows/w", None), ("GET", "/v1/workflows/w@1", None),
        ("GET", "/v1/workflows/w/versions", None), ("DELETE", "/v1/workflows/w", None),
        ("POST", "/v1/workflows/w/jobs", {}),
    ):  # fmt: skip
        assert (await api.call(method, path, body, token=token)).status == 404, path
    assert (await api.call("POST", "/v1/jobs", {"workflow": "w"}, token=token)).status == 422
    assert (await api.get("/v1/workflows", token=token)).json["workflows"] == []


async def test_a_submission_may_say_more_than_the_template_and_no_other_kind(api: Gateway) -> None:
    await put(api, "t2i", TEXT_TO_IMAGE)
    inputs = {"prompt": "x"}
    job = (await submitted(api, workflow="t2i", inputs=inputs, priority=5, labels={"a": "b"})).json
    assert (job["priority"], job["labels"], job["max_attempts"]) == (5, {"team": "art", "a": "b"}, 2)
    for fields, field in (
        ({"kind": "noop"}, "kind"), ({"payload": {"a": 1}}, "payload"), ({"workflow": "No"}, "workflow"),
        ({"workflow": "t2i@0"}, "workflow"), ({"workflow": "t2i@9"}, "workflow"),
        ({"workflow": "none"}, "workflow"),
    ):  # fmt: skip
        answer = await submitted(api, **({"workflow": "t2i", "inputs": inputs} | fields))
        assert (answer.status, answer.json["field"]) == (422, field), answer
    nothing = await submitted(api, inputs={})
    assert (nothing.status, nothing.json["field"]) == (422, "kind")
    lonely = await submitted(api, kind="noop", inputs={"a": 1})
    assert (lonely.status, lonely.json["field"]) == (422, "inputs")


async def test_several_jobs_of_one_submission_have_seeds_of_their_own(api: Gateway) -> None:
    await put(api, "t2i", TEXT_TO_IMAGE)
    answer = await api.call("POST", "/v1/workflows/t2i/jobs", {"inputs": {"prompt": "x"}, "count": 4})
    assert answer.status == 201, answer
    jobs = answer.json["jobs"]
    assert len({job["inputs"]["seed"] for job in jobs}) == len(jobs) == 4
    assert {job["labels"]["batch"] for job in jobs} == {answer.json["batch"]}
    counted = await api.call(
        "POST", "/v1/workflows/t2i@1/jobs", {"inputs": {"prompt": "x", "seed": 7}, "count": 3}
    )
    assert [job["inputs"]["seed"] for job in counted.json["jobs"]] == [7, 8, 9]
    drawn = await api.call(
        "POST", "/v1/workflows/t2i/jobs", {"inputs": {"prompt": "x", "seed": -1}, "count": 2}
    )
    assert all(job["inputs"]["seed"] >= 0 for job in drawn.json["jobs"])
    listed = await api.get(
        f"/v1/jobs?label=batch:{answer.json['batch']}", Switchyard_Min_Seq=str(jobs[-1]["seq"])
    )
    assert {job["id"] for job in listed.json["jobs"]} <= {job["id"] for job in jobs}
    for body, field in (
        ({"count": 9}, "count"), ({"count": 0}, "count"), ({"kind": "comfyui"}, "kind"),
        ({"payload": {"a": 1}}, "payload"), ({"workflow": "t2i"}, "workflow"),
        ({"labels": {"batch": "x"}}, "labels.batch"), ({"inputs": {}}, "inputs.prompt"),
    ):  # fmt: skip
        refused = await api.call("POST", "/v1/workflows/t2i/jobs", {"inputs": {"prompt": "x"}} | body)
        assert (refused.status, refused.json["field"]) == (422, field), refused


async def test_the_same_submission_of_several_makes_no_more(api: Gateway) -> None:
    await put(api, "t2i", TEXT_TO_IMAGE)
    body = {"inputs": {"prompt": "x"}, "count": 3}
    first, again = [
        await api.call("POST", "/v1/workflows/t2i/jobs", body, Idempotency_Key="k1") for _ in range(2)
    ]
    assert (first.status, again.status) == (201, 200)
    assert [job["id"] for job in first.json["jobs"]] == [job["id"] for job in again.json["jobs"]]
    assert [job["inputs"] for job in first.json["jobs"]] == [job["inputs"] for job in again.json["jobs"]]
    other = await api.call("POST", "/v1/workflows/t2i/jobs", body | {"count": 2}, Idempotency_Key="k1")
    assert (other.status, other.json["code"]) == (409, "idempotency_conflict")


async def test_a_submission_that_broke_off_goes_on_where_it_did(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with gateway(shared_broker.url, tmp_path, tenant_jobs=2) as api:
        await put(api, "t2i", TEXT_TO_IMAGE)
        body = {"inputs": {"prompt": "x"}, "count": 3}
        refused = await api.call("POST", "/v1/workflows/t2i/jobs", body, Idempotency_Key="k1")
        assert (refused.status, refused.json["code"]) == (429, "too_many_jobs"), refused
        assert "2 of 3 jobs were submitted" in refused.json["detail"]
        async with asyncio.timeout(60):
            while len(jobs := (await api.get("/v1/jobs?limit=10")).json["jobs"]) < 2:
                await asyncio.sleep(0.05)
        assert (await api.call("POST", f"/v1/jobs/{jobs[0]['id']}/cancel")).status == 200
        async with asyncio.timeout(60):
            while (
                answer := await api.call("POST", "/v1/workflows/t2i/jobs", body, Idempotency_Key="k1")
            ).status == 429:
                await asyncio.sleep(0.1)
        assert answer.status == 201, answer
        assert {job["id"] for job in jobs} < {job["id"] for job in answer.json["jobs"]}


async def test_a_job_is_run_again_exactly(api: Gateway) -> None:
    await put(api, "t2i", TEXT_TO_IMAGE)
    first = (await submitted(api, workflow="t2i", inputs={"prompt": "x"}, deadline_s=60, priority=3)).json
    answer = await api.call("POST", f"/v1/jobs/{first['id']}/again", Idempotency_Key="k")
    assert answer.status == 201, answer
    again = answer.json
    one, two = [await payload_of(api, job["id"]) for job in (first, again)]
    assert one["payload"] == two["payload"], "with the seed that was drawn"
    assert (again["inputs"], again["priority"], again["labels"]) == (first["inputs"], 3, first["labels"])
    assert (one["lane"], one["requires"]) == (two["lane"], two["requires"])
    assert "deadline_at" not in two
    repeated = await api.call("POST", f"/v1/jobs/{first['id']}/again", Idempotency_Key="k")
    assert (repeated.status, repeated.json["id"]) == (200, again["id"])
    strange = await api.call("POST", f"/v1/jobs/{first['id']}/again", token=api.token(tenant="other"))
    assert strange.status == 404


async def test_an_archived_job_cannot_be_run_again(api: Gateway) -> None:
    job = await api.submit()
    await api.call("POST", f"/v1/jobs/{job['id']}/cancel")
    assert (await api.call("DELETE", f"/v1/jobs/{job['id']}")).status == 200
    answer = await api.call("POST", f"/v1/jobs/{job['id']}/again")
    assert (answer.status, answer.json["code"]) == (409, "not_repeatable")


async def test_a_file_that_is_not_there_is_named_by_its_input(api: Gateway) -> None:
    graph = GRAPH | {"10": {"class_type": "LoadImage", "inputs": {"image": "photo.png"}}}
    inputs = {"photo": {"type": "file", "to": ["/files/photo.png"], "required": True}}
    body = {"kind": "comfyui", "payload": {"prompt": graph, "files": {}}, "inputs": inputs}
    await put(api, "i2i", body)
    answer = await submitted(api, workflow="i2i", inputs={"photo": "0" * 36})
    assert (answer.status, answer.json["code"], answer.json["field"]) == (422, "unknown_file", "inputs.photo")
    stored = (await api.call("POST", "/v1/files", b"x", Content_Type="image/png")).json
    job = (await submitted(api, workflow="i2i", inputs={"photo": stored["id"]})).json
    assert (await payload_of(api, job["id"]))["payload"]["files"] == {"photo.png": stored["id"]}


async def test_payloads_of_other_back_ends_are_templates_too(api: Gateway) -> None:
    inputs = {
        "prompt": {"type": "string", "to": ["/prompt"], "required": True},
        "seed": {"type": "seed", "to": ["/seed"]},
        "model": {"type": "string", "to": ["/override_settings/sd_model_checkpoint"]},
    }
    payload = {"task": "txt2img", "prompt": "", "steps": 20, "override_settings": {}}
    await put(api, "portrait", {"kind": "a1111", "payload": payload, "inputs": inputs})
    job = (await submitted(api, workflow="portrait", inputs={"prompt": "a cat", "model": "sd15"})).json
    spec = await payload_of(api, job["id"])
    assert spec["payload"] == payload | {
        "prompt": "a cat", "seed": job["inputs"]["seed"],
        "override_settings": {"sd_model_checkpoint": "sd15"},
    }  # fmt: skip
    assert "sd15" in orjson.dumps(spec["requires"]).decode(), (
        "what it needs is derived from the filled payload"
    )
    for change in ({"task": "sing"}, {"steps": "many"}, {"stops": 3}):
        bad = {"kind": "a1111", "payload": payload | change, "inputs": inputs}
        answer = await api.call("PUT", "/v1/workflows/bad", bad)
        assert (answer.status, answer.json["field"]) == (422, f"payload.{next(iter(change))}"), answer


async def test_the_schema_says_what_is_taken_and_the_example_is_taken(api: Gateway) -> None:
    made = await put(api, "t2i", TEXT_TO_IMAGE)
    schema = made["schema"]
    assert schema["required"] == ["prompt"]
    assert schema["properties"]["steps"] == {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}
    assert schema["properties"]["sampler"]["enum"] == ["euler", "ddim"]
    assert schema["properties"]["cfg"]["default"] == 6.5
    assert "default" not in schema["properties"]["seed"]
    assert (await submitted(api, **made["example"])).status == 201
    exported = {key: made[key] for key in ("kind", "title", "payload", "inputs", "job", "count")}
    assert (await put(api, "copy", exported))["payload"] == made["payload"], "what is read can be put again"


async def test_a_graph_of_2000_nodes_is_taken(api: Gateway) -> None:
    graph: dict[str, Any] = {
        "0": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "color": 0}}
    }
    for number in range(1, 2000):
        graph[str(number)] = {
            "class_type": "ImageScale", "_meta": {"title": f"Scale {number}"},
            "inputs": {
                "image": [str(number - 1), 0], "upscale_method": "nearest-exact", "width": 64, "height": 64,
                "crop": "disabled",
            },
        }  # fmt: skip
    graph["2000"] = {"class_type": "SaveImage", "inputs": {"images": ["1999", 0], "filename_prefix": "x"}}
    inputs = {"side": {"type": "integer", "to": ["/prompt/0/inputs/width"], "min": 1}}
    await put(api, "large", {"kind": "comfyui", "graph": graph, "inputs": inputs})
    job = (await submitted(api, workflow="large", inputs={"side": 128})).json
    assert (await payload_of(api, job["id"]))["payload"]["prompt"]["0"]["inputs"]["width"] == 128


async def test_a_schedule_draws_a_seed_at_each_tick(api: Gateway) -> None:
    await put(api, "t2i", TEXT_TO_IMAGE)
    job = {"workflow": "t2i", "inputs": {"prompt": "x"}}
    made = await api.call("POST", "/v1/schedules", {"name": "s", "cron": "@daily", "job": job})
    assert made.status == 201, made
    assert (await api.get("/v1/schedules")).json["schedules"][0]["workflow"] == "t2i"
    bad = await api.call("POST", "/v1/schedules", {"cron": "@daily", "job": {"workflow": "t2i"}})
    assert (bad.status, bad.json["field"]) == (422, "job.inputs.prompt")


async def test_more_than_a_tenant_may_have_are_refused(shared_broker: SharedBroker, tmp_path: Path) -> None:
    async with gateway(shared_broker.url, tmp_path, workflows=2, workflow_versions=3) as api:
        await put(api, "a", PLAIN)
        await put(api, "b", PLAIN)
        third = await api.call("PUT", "/v1/workflows/c", PLAIN)
        assert (third.status, third.json["code"]) == (422, "too_many_workflows"), third
        await put(api, "b", PLAIN | {"title": "x"})
        fourth = await api.call("PUT", "/v1/workflows/b", PLAIN | {"title": "y"})
        assert (fourth.status, fourth.json["code"]) == (422, "too_many_workflows"), fourth


async def test_choices_are_those_that_workers_have_now(api: Gateway) -> None:
    body = PLAIN | {
        "inputs": {
            "text": {"type": "string", "to": ["/text"], "choices_from": "engine.samplers"},
            "free": {"type": "string", "to": ["/more"], "choices_from": "engine.samplers", "open": True},
        }
    }
    made = await put(api, "w", body)
    assert "enum" not in made["schema"]["properties"]["text"]
    assert (await submitted(api, workflow="w", inputs={"text": "anything"})).status == 201, "nobody says"
    for worker, samplers in (("w1", ["euler", "ddim"]), ("w2", ["lms", {"odd": 1}])):
        claim = {
            "worker": worker, "kinds": ["noop"], "capabilities": {"engine": {"samplers": samplers}},
            "requires": {}, "wait_s": 0,
        }  # fmt: skip
        claim.pop("requires")
        answer = await api.call("POST", "/v1/leases", claim, token=api.token("worker"))
        assert answer.status in (200, 201, 204), answer
    async with asyncio.timeout(60):
        while len((await schema_of(api, "w"))["text"].get("enum", ())) < 3:
            await asyncio.sleep(0.05)
    properties = await schema_of(api, "w")
    assert set(properties["text"]["enum"]) == {"euler", "ddim", "lms"}
    assert set(properties["free"]["examples"]) == {"euler", "ddim", "lms"}
    refused = await submitted(api, workflow="w", inputs={"text": "nope"})
    assert (refused.status, refused.json["field"]) == (422, "inputs.text")
    taken = await submitted(api, workflow="w", inputs={"text": "lms", "free": "nope"})
    assert taken.status == 201, taken


async def test_choices_and_bounds_are_taken_from_what_the_graphs_server_declares(api: Gateway) -> None:
    info = {
        "KSampler": {
            "input": {
                "required": {
                    "steps": ["INT", {"min": 1, "max": 10000}], "sampler_name": [["euler", "ddim"]],
                    "scheduler": ["COMBO", {"options": ["normal", "karras"]}],
                    "cfg": ["FLOAT", {"max": 100.0}],
                }
            }
        }
    }  # fmt: skip
    inputs: dict[str, dict[str, Any]] = {
        "steps": {"type": "integer", "to": ["/prompt/3/inputs/steps"], "max": 50},
        "sampler": {"type": "string", "to": ["/prompt/3/inputs/sampler_name"]},
        "scheduler": {"type": "string", "to": ["/prompt/3/inputs/scheduler"]},
        "cfg": {"type": "number", "to": ["/prompt/3/inputs/cfg"]},
    }
    asked = {name: {**one, "choices_from": "object_info"} for name, one in inputs.items()}
    made = await put(api, "w", TEXT_TO_IMAGE | {"inputs": asked, "object_info": info})
    found = made["schema"]["properties"]
    assert (found["steps"]["minimum"], found["steps"]["maximum"]) == (1, 50)
    assert (found["sampler"]["enum"], found["scheduler"]["enum"]) == (["euler", "ddim"], ["normal", "karras"])
    assert found["cfg"]["maximum"] == 100.0
    for place in ("/prompt/3/inputs/denoise", "/prompt/4/inputs/ckpt_name", "/prompt/9"):
        bad = {"a": {"type": "string", "to": [place], "choices_from": "object_info"}}
        answer = await api.call(
            "PUT", "/v1/workflows/x", TEXT_TO_IMAGE | {"inputs": bad, "object_info": info}
        )
        assert (answer.status, answer.json["field"]) == (422, "inputs.a.choices_from"), answer


async def schema_of(api: Gateway, name: str) -> dict[str, Any]:
    found: dict[str, Any] = (await api.get(f"/v1/workflows/{name}")).json["schema"]["properties"]
    return found


async def everything(api: Gateway) -> str:
    """Subjects and bodies of all that the broker has."""
    names = (await jetstream.api(api.nc, "STREAM.NAMES", timeout_s=20))["streams"]
    found = [
        f"{message.subject} {message.data!r}"
        for name in names
        for message in await read_range(api.nc, name, ">", limit=5000, timeout_s=20)
    ]
    return "\n".join(found)


@pytest.mark.parametrize("by", ["submission", "template", "kind"])
async def test_jobs_of_a_workflow_that_can_be_erased_leave_no_input_in_clear(api: Gateway, by: str) -> None:
    mark, kind = f"patient-{new_id()}", f"erased-{by}"
    said: dict[str, Any] = {"erasable": True}
    made = {
        "kind": kind, "payload": PLAIN["payload"] | {"seed": 1}, "count": {"max": 4},
        "inputs": PLAIN["inputs"] | {"seed": {"type": "seed", "to": ["/seed"]}},
        "job": said if by == "template" else {},
    }  # fmt: skip
    await put(api, f"e-{by}", made)
    if by == "kind":
        answer = await api.call("PUT", f"/v1/kinds/{kind}", said, token=api.token("admin"))
        assert answer.status == 200, answer
    asked = {"inputs": {"text": mark, "second": {"deep": mark}}} | (said if by == "submission" else {})
    key = {"Idempotency_Key": f"key-{mark[-8:]}"}
    one = await api.call("POST", "/v1/jobs", asked | {"workflow": f"e-{by}"}, **key)
    again = await api.call("POST", "/v1/jobs", asked | {"workflow": f"e-{by}"}, **key)
    assert (one.status, again.status, again.json["id"]) == (201, 200, one.json["id"]), (one, again)
    several = await api.call("POST", f"/v1/workflows/e-{by}/jobs", asked | {"count": 3})
    assert several.status == 201, several
    jobs = [one.json, *several.json["jobs"]]
    assert [job["inputs"] for job in jobs] == [{}] * 4
    assert all(job["workflow"] == f"e-{by}@1" for job in jobs)
    assert mark not in await everything(api)
    asking = {"worker": "curl", "kinds": [kind], "lease_s": 60, "wait_s": 20}
    for _ in jobs:
        claimed = await api.call("POST", "/v1/leases", asking, token=api.token("worker"))
        payload = claimed.json["job"]["payload"]
        assert payload == {"text": mark, "list": [1, {"deep": mark}], "seed": payload["seed"]}
