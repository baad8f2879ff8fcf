"""The executor of the double: one piece of work at a time, which nobody's going away stops."""

from __future__ import annotations

import asyncio
import base64
import io
import itertools
import json
import random
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

from PIL import Image, PngImagePlugin

from tests.connectors.a1111.double.models import CHECKPOINTS, Generation


class Failure(Exception):  # noqa: N818 - as the server words it
    """An exception of the server."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name


class Execution:
    """The lock, the state of what runs, and the tasks by their ids."""

    def __init__(self, *, knows_tasks: bool) -> None:
        self.pending: dict[str, None] = {}
        self.current: str | None = None
        self.finished: list[str] = []
        self.begun: list[str] = []
        self.runs: Counter[str] = Counter()
        """By task, how often it was run to its end."""
        self.interrupted_tasks: list[str] = []
        self.held = asyncio.Event()
        self.held.set()
        self.step_s = 0.0
        self.oom_left = 0
        self.failures_left = 0
        self.endless = False
        """What the server says of its work stays as it was in the middle, though it has ended."""
        self.loaded = "v1-5-pruned.safetensors [6ce0161689]"
        self.loads: list[str] = []
        self.options: dict[str, Any] = {
            "sd_model_checkpoint": self.loaded, "return_grid": True, "samples_format": "png",
            "live_previews_enable": True, "sd_vae": "Automatic",
        }  # fmt: skip
        self.state = idle()
        self.preview: tuple[int, str] = (0, "")
        self.writes_parameters = True
        self._knows_tasks = knows_tasks
        self._lock = asyncio.Lock()
        self._times = itertools.count(1)

    async def work(self, task_id: str, job: str, steps: int, jobs: int, make: Callable[[], Any]) -> Any:
        """Wait for the lock, take the steps, and return what `make` gives; `interrupted` cuts it short."""
        if self._knows_tasks and task_id:
            self.pending[task_id] = None
        async with self._lock:
            if self._knows_tasks and task_id:
                self.pending.pop(task_id, None)
                self.current = task_id
            name = task_id or f"{job}-{uuid.uuid4().hex[:7]}"
            self.begun.append(name)
            self.state = idle() | {
                "job": job, "job_count": jobs, "sampling_steps": steps,
                "job_timestamp": str(next(self._times)),
            }  # fmt: skip
            try:
                await self._steps(steps, jobs)
                if self.failures_left > 0:
                    self.failures_left -= 1
                    raise Failure(
                        "RuntimeError", "mat1 and mat2 shapes cannot be multiplied at /srv/webui/a.py"
                    )
                made = make()
                if self.state["interrupted"]:
                    self.interrupted_tasks.append(name)
                else:
                    self.runs[name] += 1
                if (
                    self._knows_tasks and task_id and not self.endless
                ):  # one that raises stays the current one
                    self.current = None
                    self.finished = [*self.finished, task_id][-16:]
            finally:
                if not self.endless:
                    interrupted = self.state["interrupted"]
                    self.state = idle() | {"interrupted": interrupted}
            return made

    async def _steps(self, steps: int, jobs: int) -> None:
        if self.oom_left > 0:
            self.oom_left -= 1
            raise Failure("OutOfMemoryError", "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...")
        for number in range(jobs):
            self.state["job_no"] = number
            for step in range(steps):
                if self.state["interrupted"]:
                    return
                self.state["sampling_step"] = step
                self.preview = (self.preview[0] + 1, encoded(8, 8, step, "JPEG"))
                while not self.held.is_set() and not self.state["interrupted"]:
                    await asyncio.sleep(0.005)
                await asyncio.sleep(self.step_s)

    def checkpoint(self, wanted: str | None) -> None:
        """Load what is wanted, or what the options say."""
        name = wanted or self.options["sd_model_checkpoint"]
        for each in CHECKPOINTS:
            title = str(each["title"])
            if name in (title, title.partition(" ")[0], each["model_name"], each["hash"]):
                if title != self.loaded:
                    self.loaded = title
                    self.loads.append(title)
                return
        raise Failure("RuntimeError", f"model {name!r} not found")

    def made(self, request: Generation) -> tuple[list[str], dict[str, Any]]:
        """Images and info of a request, as many as were made until it was interrupted."""
        total = (request.batch_size or 1) * (request.n_iter or 1)
        done = (self.state["job_no"] + 1) * (request.batch_size or 1) if self.state["interrupted"] else total
        first = random.randrange(2**32) if (request.seed or -1) < 0 else request.seed or 0
        seeds = [first + number for number in range(total)]
        texts = [self._infotext(request, seed) for seed in seeds]
        width, height = request.width or 512, request.height or 512
        made = [
            encoded(width, height, seed, "PNG", text if self.writes_parameters else "")
            for seed, text in zip(seeds[:done], texts, strict=False)
        ]
        has_grid = total > 1 and self.options["return_grid"]
        if has_grid:
            made.insert(
                0, encoded(width * total, height, 0, "PNG", texts[0] if self.writes_parameters else "")
            )
            texts.insert(0, texts[0])
        name = next(each["model_name"] for each in CHECKPOINTS if each["title"] == self.loaded)
        info = {
            "prompt": request.prompt, "all_prompts": [request.prompt] * total, "negative_prompt": "",
            "all_negative_prompts": [""] * total, "seed": first, "all_seeds": seeds, "subseed": 1,
            "all_subseeds": [1] * total, "width": width, "height": height, "steps": request.steps,
            "sampler_name": request.sampler_name or "Euler", "cfg_scale": request.cfg_scale,
            "batch_size": request.batch_size, "sd_model_name": name, "sd_model_hash": "6ce0161689",
            "index_of_first_image": int(has_grid), "infotexts": texts, "extra_generation_params": {},
            "job_timestamp": self.state["job_timestamp"], "version": "v1.10.1",
        }  # fmt: skip
        return made, info

    def _infotext(self, request: Generation, seed: int) -> str:
        name = next(each["model_name"] for each in CHECKPOINTS if each["title"] == self.loaded)
        return (
            f"{request.prompt}\nNegative prompt: {request.negative_prompt}\nSteps: {request.steps}, "
            f"Sampler: {request.sampler_name or 'Euler'}, CFG scale: {request.cfg_scale:g}, Seed: {seed}, "
            f"Size: {request.width}x{request.height}, Model: {name}, Version: v1.10.1"
        )


def idle() -> dict[str, Any]:
    return {
        "skipped": False, "interrupted": False, "stopping_generation": False, "job": "", "job_count": 0,
        "job_timestamp": "0", "job_no": 0, "sampling_step": 0, "sampling_steps": 0,
    }  # fmt: skip


def encoded(width: int, height: int, colour: int, form: str, parameters: str = "") -> str:
    """An image as base64, whose text is `parameters`."""
    image = Image.new("RGB", (width, height), (colour % 256, colour // 256 % 256, 60))
    buffer = io.BytesIO()
    if form == "PNG":
        texts = PngImagePlugin.PngInfo()
        if parameters:
            texts.add_text("parameters", parameters)
        image.save(buffer, "PNG", pnginfo=texts)
    else:
        image.save(buffer, form)
    return base64.b64encode(buffer.getvalue()).decode()


def image_of(text: str) -> Image.Image:
    """The image of a request, of base64 or a `data:` URI.

    Raises:
        Failure: it is none.
    """
    body = text.partition(",")[2] if text.startswith("data:") else text
    try:
        image = Image.open(io.BytesIO(base64.b64decode(body)))
        image.load()
    except Exception as error:
        raise Failure("HTTPException", "Invalid encoded image") from error
    return image


def info_text(info: dict[str, Any]) -> str:
    """As Python's json writes it, NaN among it."""
    return json.dumps(info)
