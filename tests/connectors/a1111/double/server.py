"""The routes of the double, and its faults. Source: those of AUTOMATIC1111 1.10, Forge and SD.Next."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Literal

import pydantic
from aiohttp import web

from tests.connectors.a1111.double import models
from tests.connectors.a1111.double.execution import Execution, Failure, encoded, image_of, info_text
from tests.connectors.a1111.double.models import Generation, Interrogation, Upscaling

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Build = Literal["a1111", "forge", "sdnext"]
HTML = "<html><body><h1>Internal Server Error</h1></body></html>"


class A1111Double:
    """One server.

    Args:
        build: whose routes it has. SD.Next does not know tasks by their ids.
        auth: `user:password`, as of `--api-auth`.
        port: 0 for any that is free.
    """

    def __init__(self, build: Build = "a1111", *, auth: str = "", port: int = 0) -> None:
        self.build = build
        self.auth = auth
        self.port = port
        self.execution = Execution(knows_tasks=build != "sdnext")
        self.asked: list[str] = []
        """Methods and paths, in order."""
        self.bodies: list[dict[str, Any]] = []
        """What was sent to have images made."""
        self.silent = asyncio.Event()
        """While it is set, no request is answered."""
        self.html_left = 0
        """How many of the next calls a proxy answers with 500 and a page."""
        self.lost_left = 0
        """How many of the next calls lose their connection while the work goes on."""
        self.mute_left = 0
        """How many of the next calls are never answered, though the work ends."""
        self.rewrite: Callable[[str, Any], Any] = lambda _path, body: body
        """What an answer reads like, by path."""
        self.has_api = True
        self.lacks = ""
        """A path that it does not have."""
        self._runner: web.AppRunner | None = None
        self._work: set[asyncio.Task[Any]] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Serve until the block ends; its URL."""
        try:
            await self.listen()
            yield f"http://127.0.0.1:{self.port}"
        finally:
            await self.close()

    async def listen(self) -> None:
        app = web.Application(middlewares=[self._faults], client_max_size=256 * 1024**2)
        self._add_routes(app.router)
        runner = self._runner = web.AppRunner(app, shutdown_timeout=0.01, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port, reuse_address=True).start()
        self.port = runner.addresses[0][1]

    async def close(self) -> None:
        """Nobody listens any more, and what it did is gone."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()
        for task in list(self._work):
            task.cancel()
        if self._work:
            await asyncio.wait(self._work)

    async def restart(self) -> None:
        """It dies, and is there again without any of its work."""
        await self.close()
        before, self.execution = self.execution, Execution(knows_tasks=self.build != "sdnext")
        self.execution.runs, self.execution.begun = before.runs, before.begun
        await self.listen()

    def others_work(self, steps: int = 1) -> str:
        """Somebody else has an image made; what that is called."""
        name = f"task(txt2img-other{len(self.execution.begun)})"
        self._start(self.execution.work(name, "scripts_txt2img", steps, 1, lambda: None))
        return name

    def _start(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        return task

    # --- Routes

    def _add_routes(self, router: web.UrlDispatcher) -> None:
        lists: dict[str, Any] = {
            "sd-models": models.CHECKPOINTS, "loras": models.LORAS, "samplers": models.SAMPLERS,
            "schedulers": models.SCHEDULERS, "upscalers": models.UPSCALERS, "scripts": models.SCRIPTS,
            "sd-modules" if self.build == "forge" else "sd-vae": models.VAES, "hypernetworks": [],
            "face-restorers": [{"name": "GFPGAN", "cmd_dir": None}], "prompt-styles": [], "embeddings": {},
            "latent-upscale-modes": [{"name": "Latent"}], "realesrgan-models": [], "cmd-flags": {"api": True},
            "script-info": [], "memory": {"ram": {}, "cuda": {"system": {"total": 24 * 1024**3}}},
        }  # fmt: skip
        for name, value in lists.items():
            router.add_get(f"/sdapi/v1/{name}", self._fixed(value))
        table: tuple[tuple[str, str, Handler], ...] = (
            ("POST", "txt2img", self._generate), ("POST", "img2img", self._generate),
            ("POST", "extra-single-image", self._upscale), ("POST", "interrogate", self._interrogate),
            ("POST", "png-info", self._png_info), ("GET", "progress", self._progress),
            ("POST", "interrupt", self._interrupt), ("POST", "skip", self._nothing),
            ("POST", "refresh-checkpoints", self._nothing), ("POST", "unload-checkpoint", self._nothing),
            ("GET", "options", self._options), ("POST", "options", self._set_options),
        )  # fmt: skip
        for method, name, handler in table:
            router.add_route(method, f"/sdapi/v1/{name}", handler)
        router.add_post("/internal/progress", self._task_progress)
        if self.build != "sdnext":
            router.add_get("/internal/pending-tasks", self._pending)

    @web.middleware
    async def _faults(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path}")
        if self.silent.is_set():
            await asyncio.Event().wait()
        if request.path.startswith("/sdapi"):
            if not self.has_api or request.path == self.lacks:
                return web.json_response({"detail": "Not Found"}, status=404)
            expected = f"Basic {base64.b64encode(self.auth.encode()).decode()}"
            if self.auth and request.headers.get("Authorization") != expected:
                return web.json_response(
                    {"detail": "Incorrect username or password"},
                    status=401,
                    headers={"WWW-Authenticate": "Basic"},
                )
        try:
            return await handler(request)
        except pydantic.ValidationError as error:
            faults = [
                {"loc": ["body", *each["loc"]], "msg": each["msg"], "type": each["type"]}
                for each in error.errors(include_url=False, include_context=False, include_input=False)
            ]
            return web.json_response({"detail": faults}, status=422)
        except web.HTTPException as error:
            return refusal(error.status, error.text or "")
        except Failure as error:
            if error.name == "HTTPException":
                return refusal(500, str(error))
            body = {"error": error.name, "detail": "", "body": "", "errors": str(error)}
            return web.json_response(body, status=500)

    async def _called(self, request: web.Request, work: Any, answer: Callable[[Any], Any]) -> web.Response:
        """Do the work whoever waits for it, and answer."""
        if self.html_left > 0:
            self.html_left -= 1
            work.close()
            return web.Response(status=500, text=HTML, content_type="text/html")
        loses, self.lost_left = self.lost_left > 0, max(0, self.lost_left - 1)
        mute, self.mute_left = self.mute_left > 0, max(0, self.mute_left - 1)
        task = self._start(work)
        if loses and request.transport is not None:
            while not self.execution.begun:
                await asyncio.sleep(0.005)
            request.transport.abort()
        made = await asyncio.shield(task)
        if mute:
            await asyncio.Event().wait()
        return self._json(request, answer(made))

    # --- Work

    async def _generate(self, request: web.Request) -> web.Response:
        body = await request.json()
        wanted = Generation.model_validate(body)
        self.bodies.append(body)
        self._check(wanted, request.path)
        execution = self.execution
        steps = wanted.steps or 50
        for image in wanted.init_images or []:
            image_of(image)
        if wanted.mask:
            image_of(wanted.mask)

        def make() -> Any:
            execution.checkpoint((wanted.override_settings or {}).get("sd_model_checkpoint"))
            return execution.made(wanted)

        def answer(made: Any) -> Any:
            images, info = made
            parameters = {**body, "init_images": None, "mask": None}
            return {
                "images": images if wanted.send_images else [],
                "parameters": parameters,
                "info": info_text(info),
            }

        job = "scripts_txt2img" if request.path.endswith("txt2img") else "scripts_img2img"
        work = execution.work(wanted.force_task_id or "", job, steps, wanted.n_iter or 1, make)
        return await self._called(request, work, answer)

    def _check(self, wanted: Generation, path: str) -> None:
        names = {name for each in models.SAMPLERS for name in (each["name"], *each["aliases"])}
        sampler = wanted.sampler_name or wanted.sampler_index or "Euler"
        if sampler not in names:
            raise web.HTTPNotFound(text="Sampler not found")
        if path.endswith("img2img") and not wanted.init_images:
            raise web.HTTPNotFound(text="Init image not found")
        scripts = models.SCRIPTS["img2img" if path.endswith("img2img") else "txt2img"]
        if wanted.script_name and wanted.script_name.lower() not in scripts:
            raise web.HTTPUnprocessableEntity(text=f"Script '{wanted.script_name}' not found")
        for name in wanted.alwayson_scripts or {}:
            if name.lower() not in scripts:
                raise web.HTTPUnprocessableEntity(text=f"always on script {name} not found")
            if name.lower() in models.SELECTABLE:
                raise web.HTTPUnprocessableEntity(
                    text="Cannot have a selectable script in the always on scripts params"
                )

    async def _upscale(self, request: web.Request) -> web.Response:
        wanted = Upscaling.model_validate(await request.json())
        image = image_of(wanted.image)
        size = [max(1, math.floor(side * wanted.upscaling_resize)) for side in image.size]

        def make() -> Any:
            if wanted.upscaler_1 not in {each["name"] for each in models.UPSCALERS}:
                raise Failure("AssertionError", f"could not find upscaler named {wanted.upscaler_1}")
            return encoded(size[0], size[1], 1, "PNG", "upscaled")

        work = self.execution.work("", "extras", 2, 1, make)
        return await self._called(request, work, lambda made: {"html_info": "<p>done</p>", "image": made})

    async def _interrogate(self, request: web.Request) -> web.Response:
        wanted = Interrogation.model_validate(await request.json())
        if not wanted.image:
            raise web.HTTPNotFound(text="Image not found")
        image_of(wanted.image)
        if wanted.model not in ("clip", "deepdanbooru"):
            raise web.HTTPNotFound(text="Model not found")
        work = self.execution.work("", "interrogate", 2, 1, lambda: "a red square")
        return await self._called(request, work, lambda made: {"caption": made})

    async def _png_info(self, request: web.Request) -> web.Response:
        image = image_of((await request.json())["image"])
        info = image.info.get("parameters", "")
        return self._json(request, {"info": info, "items": {}, "parameters": {}})

    # --- Its state

    async def _progress(self, request: web.Request) -> web.Response:
        state = self.execution.state
        fraction = 0.0
        if state["job_count"] != 0:
            steps = max(1, state["sampling_steps"]) * state["job_count"]
            fraction = min(1.0, 0.01 + state["job_no"] / state["job_count"] + state["sampling_step"] / steps)
        body = {
            "progress": fraction, "eta_relative": 1.5 if fraction else 0.0, "state": state,
            "current_image": None, "textinfo": None,
        }  # fmt: skip
        return self._json(request, body)

    async def _task_progress(self, request: web.Request) -> web.Response:
        said, execution = await request.json(), self.execution
        name = said.get("id_task")
        active = name is not None and name == execution.current
        queued, completed = name in execution.pending, name in execution.finished
        body: dict[str, Any] = {
            "active": active, "queued": queued, "completed": completed, "id_live_preview": -1,
            "textinfo": "Queued..." if queued else "Waiting...",
        }  # fmt: skip
        if active:
            state, (number, image) = execution.state, execution.preview
            count = max(1, state["job_count"])
            fraction = (
                state["job_no"] / count + state["sampling_step"] / max(1, state["sampling_steps"]) / count
            )
            body |= {"progress": min(1.0, fraction), "eta": 1.5, "textinfo": None, "id_live_preview": number}
            if said.get("live_preview") and image and number != said.get("id_live_preview"):
                body["live_preview"] = f"data:image/jpeg;base64,{image}"
        return self._json(request, body)

    async def _pending(self, request: web.Request) -> web.Response:
        names = list(self.execution.pending)
        return self._json(request, {"size": len(names), "tasks": names})

    async def _interrupt(self, request: web.Request) -> web.Response:
        self.execution.state["interrupted"] = True
        return self._json(request, {})

    async def _nothing(self, request: web.Request) -> web.Response:
        return self._json(request, {})

    async def _options(self, request: web.Request) -> web.Response:
        more = {"forge": {"forge_preset": "sd"}, "sdnext": {"sd_backend": "diffusers"}}.get(self.build, {})
        return self._json(request, self.execution.options | more)

    async def _set_options(self, request: web.Request) -> web.Response:
        self.execution.options |= await request.json()
        return self._json(request, None)

    def _fixed(self, value: Any) -> Handler:
        async def answer(request: web.Request) -> web.Response:
            return self._json(request, value)

        return answer

    def _json(self, request: web.Request, body: Any) -> web.Response:
        said = self.rewrite(request.path, body)
        if isinstance(said, bytes):
            return web.Response(body=said, content_type="application/json")
        return web.json_response(said)


def refusal(status: int, detail: str) -> web.Response:
    """An error as the server's middleware words it."""
    return web.json_response(
        {"error": "HTTPException", "detail": detail, "body": "", "errors": ""}, status=status
    )
