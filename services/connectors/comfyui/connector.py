"""The connector of kind `comfyui`: it finds or sends a prompt, watches it, and brings back what it made."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import structlog
from pydantic import BaseModel

from switchyard.services.connectors.comfyui import graph as graphs
from switchyard.services.connectors.comfyui.api import Api, AwayError
from switchyard.services.connectors.comfyui.ends import OUT_OF_MEMORY, check_end, does, seconds_of
from switchyard.services.connectors.comfyui.files import SEEN_S, Folders, fetch_outputs, send_inputs, shown_in
from switchyard.services.connectors.comfyui.health import Health
from switchyard.services.connectors.comfyui.models.use import fetching_of, holding, offered
from switchyard.services.connectors.comfyui.monitor import Monitor
from switchyard.services.connectors.comfyui.payload import ComfyPayload
from switchyard.services.connectors.comfyui.progress import Progress
from switchyard.services.connectors.comfyui.prompts import MARK, Prompts, prompt_id_of
from switchyard.services.connectors.comfyui.section import ComfySection, backend_of
from switchyard.services.connectors.comfyui.watch import Watch
from switchyard.services.connectors.comfyui.wording import cleaned, faults_of, refusal_of
from switchyard.services.connectors.payload import parse
from switchyard.services.connectors.protocol import (
    Attempt,
    BackendLostError,
    BusyError,
    FatalError,
    Outcome,
    RetryableError,
)

log = structlog.get_logger()

POSTS: Final = 3
AGAIN_S: Final = 0.5
EARLIER: Final = 20
"""How many earlier attempts of a job are looked for."""
REMEMBERED: Final = 1_000
FREE: Final = {"unload_models": True, "free_memory": True}


class ComfyConnector:
    """An instance: one ComfyUI server.

    Args:
        section: its settings.
    """

    kind = "comfyui"
    payload_model: type[BaseModel] = ComfyPayload
    section_model = ComfySection

    def __init__(self, section: ComfySection) -> None:
        self.id = section.id
        self.backend = backend_of(section)
        self._section = section
        self._changed: Callable[[], None] = _nobody
        self._health = Health(section.silent_s, self._has_changed, time.monotonic)
        self._api = Api(
            section.url, answer_s=section.answer_s, stall_s=section.stall_s, alive=self._health.heard
        )
        self._prompts = Prompts(self._api)
        self._monitor = Monitor(
            self._api, self._prompts, self._health, section, self._has_changed, self._has_read
        )
        self.fetching = fetching_of(section, self._has_changed, self._monitor)
        """What fetches models for it; None where it may not."""
        self._folders = Folders()
        self._short: dict[str, float] = {}
        """Jobs that ran out of memory here, and when."""
        self._loaded: tuple[str, ...] = ()

    @classmethod
    def make(cls, section: ComfySection, /) -> ComfyConnector:
        """An instance."""
        return cls(section)

    @property
    def slots(self) -> int:
        """Prompts at once; none while the server is down, and one to try it when it is back."""
        return self._health.slots(self._section.slots or 1)

    def capabilities(self) -> dict[str, Any]:
        """What the server is and has, as `comfyui`."""
        said = {"state": self._health.state, "backend": self.backend.id, "loaded": list(self._loaded)}
        if self._health.why:
            said["why"] = self._health.why
        if self._health.since is not None:
            said["since"] = f"{self._health.since:%Y-%m-%dT%H:%M:%SZ}"
        return {"comfyui": offered(self.fetching, self._monitor.found()) | said}

    def watch(self, changed: Callable[[], None]) -> None:
        """Call `changed` when the server comes, goes, or has other nodes or models."""
        self._changed = changed
        with contextlib.suppress(RuntimeError):  # without a loop it begins with the first attempt
            self._monitor.start()

    def _has_changed(self) -> None:
        self._changed()

    def _has_read(self, models: dict[str, Any]) -> None:
        if self.fetching is not None:
            self.fetching.has_looked(models)

    async def close(self) -> None:
        """End what goes on beside the attempts, and all connections."""
        await self._monitor.close()
        await self._api.close()

    # --- Attempts

    async def run(self, attempt: Attempt) -> Outcome:
        """Find the prompt of the job or send it, and watch it to its end."""
        payload = parse(ComfyPayload, attempt.payload)
        self._monitor.start()
        self._check_free(attempt.job_id)
        self._check_files(payload)
        async with holding(self.fetching, payload.graph()):
            return await self._run(attempt, payload)

    async def _run(self, attempt: Attempt, payload: ComfyPayload) -> Outcome:
        sent = await send_inputs(self._api, attempt, payload.files, self._folders.of(attempt.tenant))
        graph = graphs.with_files(payload.graph(), sent.names)
        digest = graphs.digest_of(graphs.with_files(payload.graph(), sent.contents))
        try:
            found = await self._found(attempt, digest)
        except AwayError as error:
            if error.answered:
                raise RetryableError("backend_failed", f"ComfyUI does not show its queue: {error}") from None
            raise BusyError("backend_away", f"ComfyUI is away: {error}") from None
        prompt_id = found or prompt_id_of(attempt.job_id, attempt.number)
        self._monitor.pardon(prompt_id)
        await attempt.delegate(prompt_id)
        async with self._watching(attempt, prompt_id, graph) as watch:
            if found is None:
                await self._post(attempt, prompt_id, graph, payload, digest)
            return await self._outcome(attempt, prompt_id, graph, payload, watch)

    async def attach(self, attempt: Attempt, remote_id: str) -> Outcome:
        """Watch a prompt that is there to its end."""
        payload = parse(ComfyPayload, attempt.payload)
        self._monitor.start()
        prompt_id = remote_id or prompt_id_of(attempt.job_id, attempt.number)
        self._monitor.pardon(prompt_id)
        graph = payload.graph()
        async with (
            holding(self.fetching, graph, is_there=True),
            self._watching(attempt, prompt_id, graph) as watch,
        ):
            return await self._outcome(attempt, prompt_id, graph, payload, watch)

    async def stop(self, attempt: Attempt, remote_id: str) -> None:
        """Stop a prompt, and return when it is not there any more."""
        prompt_id = remote_id or prompt_id_of(attempt.job_id, attempt.number)
        self._monitor.condemn(prompt_id)  # if it cannot be stopped now, then as soon as the server answers
        try:
            await self._prompts.stop(prompt_id)
        except AwayError as error:
            raise RetryableError("backend_away", f"ComfyUI is away: {error}") from None
        self._monitor.pardon(prompt_id)

    def _check_free(self, job_id: str) -> None:
        """Whether the server may have another prompt, of this job.

        Raises:
            BusyError: it is down, or the job has just run out of memory there.
        """
        if self._health.state == "down":
            raise BusyError("backend_away", f"ComfyUI is away: {self._health.why}")
        short_at_s = self._short.get(job_id)
        if short_at_s is not None and time.monotonic() - short_at_s < self._section.elsewhere_s:
            raise BusyError("out_of_memory", "the job has just run out of memory here; others may try")

    def _check_files(self, payload: ComfyPayload) -> None:
        """Whether the graph leaves alone what others have at the server.

        Raises:
            FatalError: code `foreign_file`; names node and input.
        """
        if self._section.reads_server_files:
            return
        known = self._monitor.inventory.file_inputs
        if found := graphs.foreign_files_of(payload.graph(), known, payload.files):
            said = "reads a file of the server that did not come with the job"
            raise FatalError("foreign_file", f"{found[0]}: it {said}")

    # --- The prompt of a job

    async def _found(self, attempt: Attempt, digest: str) -> str | None:
        """The prompt of this attempt or an earlier one that is there and does the same; others are stopped.

        Raises:
            AwayError: the server does not say.
        """
        first = max(1, attempt.number - EARLIER)
        ids = [prompt_id_of(attempt.job_id, number) for number in range(attempt.number, first - 1, -1)]
        queued = await self._prompts.queued(ids)
        found = None
        for prompt_id in ids:
            standing = queued.get(prompt_id) or await self._prompts.look(prompt_id)
            if standing.state == "unknown":
                continue
            if found is None and does(standing, digest):
                found = prompt_id
            elif standing.state != "ended":
                await self._prompts.stop(prompt_id)
        return found

    async def _post(
        self, attempt: Attempt, prompt_id: str, graph: dict[str, Any], payload: ComfyPayload, digest: str
    ) -> None:
        """Send the prompt.

        Raises:
            FatalError: the graph is not valid; says where.
            RetryableError, BackendLostError: the server did not take it.
        """
        mark = {"job": attempt.job_id, "attempt": attempt.number, "digest": digest}
        extra: dict[str, Any] = {MARK: mark}
        if payload.workflow is not None:
            extra["extra_pnginfo"] = {"workflow": payload.workflow}
        body = {"prompt": graph, "prompt_id": prompt_id, "client_id": prompt_id, "extra_data": extra}
        status, said = 0, None
        for turn in range(POSTS):
            try:
                status, said = await self._prompts.post(prompt_id, body)
            except AwayError as error:
                if turn + 1 == POSTS:
                    self._lost(prompt_id, str(error))
                    raise BackendLostError(
                        "backend_away", f"ComfyUI did not take the prompt: {error}"
                    ) from None
            else:
                if status < 500:
                    break
            await asyncio.sleep(AGAIN_S * 2**turn)
        if status == 200:
            errors = said.get("node_errors") if isinstance(said, dict) else None
            for fault in faults_of(errors, graph):
                attempt.log(f"left out: {fault.message}")
            return
        self._health.has_worked()
        if status >= 500:
            raise RetryableError("backend_failed", f"ComfyUI answers {status} to the prompt")
        if status == 413:
            raise FatalError("graph_too_large", "ComfyUI does not take a graph of that size")
        code, message = refusal_of(said, graph)
        raise FatalError("invalid_graph", f"{message} [{cleaned(code)}]")

    @contextlib.asynccontextmanager
    async def _watching(
        self, attempt: Attempt, prompt_id: str, graph: dict[str, Any]
    ) -> AsyncIterator[Watch]:
        classes = self._monitor.inventory.output_classes
        targets = tuple(
            node
            for node, class_type, _ in graphs.nodes_of(graph)
            if classes is not None and class_type in classes
        )
        progress = Progress(prompt_id, graph, targets)
        watch = Watch(self._api, self._prompts, self._monitor, self._section, attempt, prompt_id, progress)
        async with watch.following():
            yield watch

    # --- Its end

    async def _outcome(
        self, attempt: Attempt, prompt_id: str, graph: dict[str, Any], payload: ComfyPayload, watch: Watch
    ) -> Outcome:
        try:
            entry = await watch.ended()
        except BackendLostError as error:
            self._lost(prompt_id, error.message)
            raise
        self._health.has_worked()
        await self._check_end(attempt, prompt_id, entry, graph)
        self._remember_loaded(graph)
        async with _seen(attempt):
            shown = shown_in(entry, payload.outputs)
            try:
                fetched = await fetch_outputs(
                    self._api, attempt, shown.files, graph, self._section.output_bytes,
                    keep=self._section.embedded == "keep",
                )  # fmt: skip
            except RetryableError as error:
                if error.code == "output_missing":  # taken away since: they are to be made again
                    await self._forget(attempt, prompt_id)
                raise
            if payload.free:
                await self._free(attempt)
                self._loaded = ()
                self._changed()
        nodes, cached = watch.progress.counts
        wanted = graphs.needed_by(graph, {file["node"] for file in fetched.outputs} or graph)
        result = {
            "prompt_id": prompt_id,
            "backend": self.backend.id,
            "outputs": fetched.outputs,
            "texts": shown.texts,
            "parameters": graphs.literals_of(payload.graph(), wanted),
            "nodes": {"run": nodes, "cached": cached},
        }
        if left_out := self._left_out(entry, graph):
            result["left_out"] = left_out
        usage = {"files": float(len(fetched.outputs))}
        if (seconds := seconds_of(entry)) is not None:
            usage["seconds"] = seconds
        return Outcome(result, artifacts=fetched.artifacts, usage=usage)

    async def _check_end(
        self, attempt: Attempt, prompt_id: str, entry: dict[str, Any], graph: dict[str, Any]
    ) -> None:
        """Whether it ended well; a server that ran out of memory is freed.

        Raises:
            RetryableError, BackendLostError: it did not; says which node.
        """
        try:
            check_end(entry, graph, is_own=prompt_id == prompt_id_of(attempt.job_id, attempt.number))
        except RetryableError as error:
            if error.code == OUT_OF_MEMORY:
                self._remember_short(attempt.job_id)
                await self._free(attempt)
            raise

    def _left_out(self, entry: dict[str, Any], graph: dict[str, Any]) -> list[str]:
        """The nodes that should have shown something and were left out, because they are not valid."""
        item, classes = entry.get("prompt"), self._monitor.inventory.output_classes
        ran = item[4] if isinstance(item, list) and len(item) > 4 else None
        if classes is None or not isinstance(ran, list):
            return []
        return [
            node
            for node, class_type, _ in graphs.nodes_of(graph)
            if class_type in classes and node not in ran
        ]

    # --- What is remembered of the server

    def _lost(self, prompt_id: str, why: str) -> None:
        log.info("comfyui_prompt_lost", prompt=prompt_id, backend=self.backend.id, why=why)
        self._health.has_failed(why)

    def _remember_short(self, job_id: str) -> None:
        self._short.pop(job_id, None)
        self._short[job_id] = time.monotonic()
        while len(self._short) > REMEMBERED:
            del self._short[next(iter(self._short))]
        self._loaded = ()

    def _remember_loaded(self, graph: dict[str, Any]) -> None:
        loaded = graphs.checkpoints_of(graph)
        if loaded and loaded != self._loaded:
            self._loaded = loaded
            self._changed()

    async def _forget(self, attempt: Attempt, prompt_id: str) -> None:
        """Have neither cache nor history offer a prompt's outputs again."""
        await self._free(attempt)
        with contextlib.suppress(AwayError):
            await self._prompts.forget(prompt_id)

    async def _free(self, attempt: Attempt) -> None:
        """Have the server unload what it has; that it does not is no failure of the job."""
        try:
            status, _ = await self._api.ask("POST", "/free", FREE)
        except AwayError as error:
            attempt.log(f"ComfyUI was not freed: {error}")
        else:
            if status != 200:
                attempt.log(f"ComfyUI was not freed: it answers {status}")


def _nobody() -> None:
    """What hears of changes when nobody watches."""


@contextlib.asynccontextmanager
async def _seen(attempt: Attempt) -> AsyncIterator[None]:
    """Keep the lease while files are on their way: each has a bound of its own."""

    async def tick() -> None:
        while True:
            attempt.seen()
            await asyncio.sleep(SEEN_S)

    task = asyncio.get_running_loop().create_task(tick())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
