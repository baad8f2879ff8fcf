"""The client that others have written for such servers, on the double: so the double is as they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
import webuiapi
from PIL import Image

from tests.connectors.a1111.bench import until
from tests.connectors.a1111.double.server import A1111Double


class Client:
    """The client, each of whose calls blocks a thread."""

    def __init__(self, double: A1111Double, url: str) -> None:
        self.double = double
        self._port = urlsplit(url).port
        self.api: Any = None

    async def open(self, user: str = "me", password: str = "right") -> None:
        self.api = await asyncio.to_thread(
            webuiapi.WebUIApi, host="127.0.0.1", port=self._port, username=user, password=password, steps=3
        )

    async def ask(self, name: str, *arguments: Any, **more: Any) -> Any:
        call: Callable[..., Any] = getattr(self.api, name)
        return await asyncio.to_thread(call, *arguments, **more)


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    double = A1111Double(auth="me:right")
    async with double.running() as url:
        found = Client(double, url)
        await found.open()
        try:
            yield found
        finally:
            found.api.session.close()


async def test_images_are_made_from_texts_with_their_info(client: Client) -> None:
    made = await client.ask("txt2img", prompt="a cat", seed=4, width=64, height=48, batch_size=2)
    grid, one, two = made.images
    assert (grid.size, one.size, two.size) == ((128, 48), (64, 48), (64, 48))
    assert made.info["all_seeds"] == [4, 5]
    assert made.parameters["steps"] == 3
    assert one.info["parameters"] == made.info["infotexts"][1]


async def test_images_are_made_from_images_and_masks(client: Client) -> None:
    image, mask = Image.new("RGB", (32, 32), "red"), Image.new("L", (32, 32), 255)
    made = await client.ask("img2img", images=[image], mask_image=mask, prompt="x", width=32, height=32)
    assert made.image.size == (32, 32)
    assert made.parameters["init_images"] is None


async def test_images_are_made_larger_described_and_read(client: Client) -> None:
    image = Image.new("RGB", (10, 5), "red")
    made = await client.ask("extra_single_image", image, upscaler_1="Lanczos", upscaling_resize=3)
    assert made.image.size == (30, 15)
    assert (await client.ask("interrogate", image)).info == "a red square"
    drawn = await client.ask("txt2img", prompt="a cat", width=16, height=16)
    assert (await client.ask("png_info", drawn.image)).info.startswith("a cat")


async def test_it_lists_what_the_server_has(client: Client) -> None:
    assert "xl/dream.safetensors [31e35c80fc]" in await client.ask("util_get_model_names")
    assert "Euler a" in await client.ask("util_get_sampler_names")
    assert "Karras" in str(await client.ask("get_schedulers"))
    for name in (
        "get_loras", "get_sd_vae", "get_upscalers", "get_scripts", "get_embeddings", "get_memory",
        "get_face_restorers", "get_hypernetworks", "get_prompt_styles", "get_realesrgan_models",
        "get_latent_upscale_modes", "get_cmd_flags",
    ):  # fmt: skip
        assert (await client.ask(name)) is not None
    await client.ask("util_set_model", "xl/dream")
    assert await client.ask("util_get_current_model") == "xl/dream.safetensors [31e35c80fc]"


async def test_progress_is_shown_and_work_is_interrupted(client: Client) -> None:
    client.double.execution.held.clear()
    task = asyncio.create_task(client.ask("txt2img", prompt="x", steps=50, n_iter=2, width=16, height=16))
    await until(lambda: client.double.execution.begun)
    said = await client.ask("get_progress")
    assert 0 < said["progress"] < 1
    assert said["state"]["job_count"] == 2
    await client.ask("interrupt")
    made = await task
    assert len(made.images) <= 2
    await client.ask("util_wait_for_ready")
    assert (await client.ask("get_progress"))["progress"] == 0


async def test_errors_are_those_of_the_server(client: Client) -> None:
    with pytest.raises(RuntimeError, match="404"):
        await client.ask("txt2img", sampler_name="none")
    with pytest.raises(RuntimeError, match="422"):
        await client.ask("txt2img", script_name="none")
    client.double.execution.oom_left = 1
    with pytest.raises(RuntimeError, match="OutOfMemoryError"):
        await client.ask("txt2img", prompt="x")
    await client.ask("set_auth", "me", "wrong")
    with pytest.raises(RuntimeError, match="401"):
        await client.ask("txt2img", prompt="x")
