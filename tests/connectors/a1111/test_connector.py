"""What the connector makes a server do, and what it brings back."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from structlog.testing import capture_logs

from switchyard.connectors import FatalError
from switchyard.services.connectors.a1111.tasks import task_id_of
from tests.connectors.a1111.bench import Bench, open_bench, until
from tests.connectors.a1111.double.server import A1111Double, Build
from tests.connectors.a1111.payloads import drawn, picture, png, section

XL = {"sd_model_checkpoint": "xl/dream.safetensors"}


@pytest.fixture(params=["a1111", "forge", "sdnext"])
def build(request: pytest.FixtureRequest) -> Build:
    found: Build = request.param
    return found


@pytest.fixture
async def bench(tmp_path: Path, build: Build) -> AsyncIterator[Bench]:
    async with open_bench(A1111Double(build), tmp_path) as bench:
        yield bench


@pytest.fixture
async def plain(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(A1111Double(), tmp_path) as bench:
        yield bench


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


# --- What it brings back


async def test_images_come_back_with_seed_size_and_parameters(bench: Bench) -> None:
    attempt, outcome = await bench.run(drawn(7, batch_size=2))
    grid, one, two = outcome.result["outputs"]
    assert (grid["kind"], "seed" in grid) == ("grid", False)
    assert [(each["seed"], each["width"], each["height"]) for each in (one, two)] == [
        (7, 64, 48),
        (8, 64, 48),
    ]
    assert [artifact["name"] for artifact in outcome.artifacts] == list(attempt.saved)
    assert "Seed: 8" in two["parameters"]
    assert opened(attempt.saved[two["artifact"]]).info["parameters"] == two["parameters"]
    assert outcome.result["parameters"]["steps"] == 3
    assert outcome.result["info"]["sd_model_name"] == "v1-5-pruned"
    assert outcome.usage["images"] == 2
    assert attempt.delegated == []  # the lease is a held one, which dies with its connection


async def test_what_the_payload_leaves_out_is_left_to_the_server(plain: Bench) -> None:
    await plain.run({"prompt": "x", "steps": 1})
    (body,) = plain.double.bodies
    assert body == {
        "prompt": "x", "steps": 1, "send_images": True, "save_images": False,
        "force_task_id": task_id_of(plain.attempt().job_id, 1),
    }  # fmt: skip


async def test_input_files_become_base64_wherever_they_stand(plain: Bench) -> None:
    attempt = plain.attempt()
    image, mask = (attempt.offer(picture(plain.directory, name)) for name in ("a.png", "b.png"))
    unit = {"args": [{"enabled": True, "image": "pose"}, "pose"]}
    attempt.payload = drawn(
        task="inpaint", init_images=[image], mask=mask, files={"pose": image},
        alwayson_scripts={"ControlNet": unit},
    )  # fmt: skip
    outcome = await plain.run_attempt(attempt)
    (body,) = plain.double.bodies
    expected = base64.b64encode(png()).decode()
    assert (body["init_images"], body["mask"]) == ([expected], expected)
    assert body["alwayson_scripts"]["ControlNet"]["args"] == [{"enabled": True, "image": expected}, expected]
    assert expected not in json.dumps(outcome.result)
    assert "POST /sdapi/v1/img2img" in plain.double.asked


async def test_images_are_made_larger_and_described(bench: Bench) -> None:
    attempt = bench.attempt()
    image = attempt.offer(picture(bench.directory))
    attempt.payload = {"task": "upscale", "image": image, "upscaler_1": "Lanczos", "upscaling_resize": 4.0}
    outcome = await bench.run_attempt(attempt)
    (output,) = outcome.result["outputs"]
    assert (output["width"], output["height"]) == (80, 40)
    attempt.payload = {"task": "interrogate", "image": image, "model": "clip"}
    outcome = await bench.run_attempt(attempt)
    assert (outcome.result["caption"], outcome.artifacts) == ("a red square", ())


async def test_progress_and_previews_are_those_of_the_task(plain: Bench) -> None:
    plain.double.execution.held.clear()
    attempt = plain.attempt(drawn(steps=4))
    async with plain.under_way(attempt) as task:
        await until(lambda: attempt.previews)
        plain.double.execution.held.set()
        await task
    data, media_type = attempt.previews[0]
    assert (media_type, opened(data).format) == ("image/jpeg", "JPEG")
    fractions = [report["fraction"] for report in attempt.reports]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert "generating" in {report["stage"] for report in attempt.reports}


async def test_a_server_that_knows_no_tasks_shows_its_own_progress(tmp_path: Path) -> None:
    async with open_bench(A1111Double("sdnext"), tmp_path) as bench:
        bench.double.execution.step_s = 0.02
        attempt, _ = await bench.run(drawn(steps=30))
        assert any(0 < report["fraction"] < 1 for report in attempt.reports)
        assert not attempt.previews


async def test_parameters_are_written_where_the_server_does_not_and_removed_where_it_shall_not(
    plain: Bench,
) -> None:
    plain.double.execution.writes_parameters = False
    attempt, outcome = await plain.run(drawn(prompt="Käse \N{CAT FACE}"))
    (output,) = outcome.result["outputs"]
    written = opened(attempt.saved[output["artifact"]])
    assert written.info["parameters"].startswith("Käse \N{CAT FACE}\n")
    plain.double.execution.writes_parameters = True
    attempt, outcome = await plain.run(drawn(), embedded="strip")
    (output,) = outcome.result["outputs"]
    assert opened(attempt.saved[output["artifact"]]).info == {}
    assert output["embedded"] == []
    assert "Seed: 5" in output["parameters"]  # of the result, not of the file


# --- Checkpoints


async def test_a_switch_of_checkpoints_is_counted_and_what_is_loaded_declared(bench: Bench) -> None:
    connector = bench.connector()
    switches = []
    for settings in ({}, XL, XL, {"sd_model_checkpoint": "v1-5-pruned"}):
        outcome = await connector.run(bench.attempt(drawn(override_settings=settings)))
        switches.append(outcome.usage["checkpoint_switches"])
    assert switches == [0, 1, 0, 1]
    assert connector.switches == 2
    assert len(bench.double.execution.loads) == 2
    assert "v1-5-pruned" in connector.capabilities()["a1111"]["loaded"]


async def test_it_declares_what_the_server_has(bench: Bench, build: Build) -> None:
    connector = bench.connector()
    connector.watch(lambda: None)
    await until(lambda: connector.capabilities()["a1111"]["state"] == "up")
    said = connector.capabilities()["a1111"]
    assert {"xl/dream", "xl_dream", "dream", "31e35c80fc"} <= set(said["checkpoints"])
    assert (said["loras"], said["vaes"]) == (["nice_style", "style"], ["vae-ft-mse"])
    assert "R-ESRGAN 4x+" in said["upscalers"]
    assert "controlnet" in said["scripts"]
    assert (said["build"], said["vram_mib"], said["shared"]) == (build, 24 * 1024, False)
    bench.double.rewrite = lambda path, body: (
        [*body, {"name": "new", "alias": "new"}] if path.endswith("/loras") else body
    )
    await until(lambda: "new" in connector.capabilities()["a1111"]["loras"])


async def test_names_beyond_their_bytes_are_left_out_and_counted(plain: Bench) -> None:
    connector = plain.connector(names_bytes=60)
    connector.watch(lambda: None)
    await until(lambda: "left_out" in connector.capabilities()["a1111"])
    said = connector.capabilities()["a1111"]
    assert sum(len(name) + 3 for what in ("checkpoints", "loras") for name in said[what]) <= 60


# --- User and password


async def test_user_and_password_are_sent_and_shown_nowhere(tmp_path: Path) -> None:
    double = A1111Double(auth="me:s3cret-word")
    async with open_bench(double, tmp_path) as bench:
        with capture_logs() as logs:
            _, outcome = await bench.run(drawn(), username="me", password="s3cret-word")
            url = bench.url.replace("//", "//me:s3cret-word@")
            other = section(url)
            bench.url = url
            await bench.run(drawn())
        shown = [logs, outcome, section(bench.url), bench.connector().capabilities(), other.place]
        assert "s3cret-word" not in repr(shown)
        assert other.address == url.replace("me:s3cret-word@", "")


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"url": "ftp://x"}, "url"),
        ({"url": "http://x:0"}, "url"),
        ({"url": "http://x?a=1"}, "url"),
        ({"username": "me"}, "together"),
        ({"url": "http://a:b@x", "username": "me", "password": "x"}, "user, too"),
        ({"username": "a:b", "password": "x"}, "colon"),
        ({"embedded": "sometimes"}, "embedded"),
    ],
)
def test_a_section_that_cannot_be_used_says_why(settings: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        section(**({"url": "http://x"} | settings))


# --- Payloads


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        (drawn(task="paint"), "task"),
        (drawn(stepz=3), "stepz"),
        (drawn(steps="3"), "steps"),
        (drawn(steps=0), "steps"),
        (drawn(width=1_000_000), "width"),
        (drawn(task="img2img"), "init_images"),
        (drawn(task="inpaint", init_images=["x"]), "mask"),
        (drawn(mask="x"), "mask"),
        (drawn(task="img2img", init_images=["x"], enable_hr=True), "enable_hr"),
        ({"task": "upscale"}, "image"),
        ({"task": "upscale", "image": "x", "prompt": "y"}, "prompt"),
        ({"task": "interrogate", "image": "x", "upscaler_1": "y"}, "upscaler_1"),
        (drawn(files={"a": "x"}), "files"),
        (drawn(more={"prompt": "x"}), "more"),
        (drawn(more={"force_task_id": "x"}), "more"),
        (drawn(init_images=["x"] * 17, task="img2img"), "init_images"),
        (drawn(init_images=["x" * 400], task="img2img"), "init_images"),
        (drawn(alwayson_scripts={"a": "x" * 1_100_000}), "scripts"),
    ],
)
async def test_a_payload_that_breaks_a_rule_names_the_field(
    plain: Bench, payload: dict[str, Any], field: str
) -> None:
    with pytest.raises(FatalError) as raised:
        await plain.run(payload)
    assert raised.value.code == "invalid_payload"
    assert field in raised.value.message
    assert not plain.double.bodies


async def test_parameters_of_other_builds_are_passed_on(plain: Bench) -> None:
    await plain.run(drawn(more={"hidiffusion": True}))
    assert plain.double.bodies[0]["hidiffusion"] is True


async def test_input_files_have_a_limit(plain: Bench) -> None:
    attempt = plain.attempt()
    attempt.payload = drawn(task="img2img", init_images=[attempt.offer(picture(plain.directory))])
    with pytest.raises(FatalError) as raised:
        await plain.run_attempt(attempt, input_bytes=10)
    assert raised.value.code == "input_too_large"
