"""Real Cog servers of both generations, each from an environment of its own that is kept in `.tools`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiohttp

from tests.ports import free_port

MODEL: Final = Path(__file__).parent / "cog_model"
TOOLS: Final = Path(__file__).parents[2] / ".tools"
READY_S: Final = 60.0
NEWEST, OLDER = "0.23.1", "0.16.12"


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0, command


async def installed(version: str) -> Path:
    """The directory of programs of an environment with this version of Cog; made where it is missing."""
    place = TOOLS / f"cog-{version}"
    done = place / "done"
    if not done.exists():
        await _run(sys.executable, "-m", "venv", "--clear", str(place))
        await _run(str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", f"cog=={version}")
        done.touch()
    return place / "bin"


class RealCog:
    """One on loopback, with the model of `cog_model`.

    Args:
        name: as it is registered.
        version: of Cog.
        directory: for its log.
    """

    def __init__(self, name: str, version: str, directory: Path) -> None:
        self.name = name
        self.version = version
        self.port = free_port()
        self._log = directory / f"cog-{name}.log"
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def wish(self) -> dict[str, Any]:
        """The body of its registration."""
        return {"endpoints": {"predict": f"{self.url}/predictions"}, "kinds": ["upscale"], "profile": "cog"}

    async def start(self) -> None:
        """Start it, and wait until it is ready."""
        programs = await installed(self.version)
        environment = os.environ | {
            "PATH": f"{programs}:{os.environ['PATH']}", "PORT": str(self.port),
            "COG_PREDICT_TYPE_STUB": "predict.py:Predictor", "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                str(programs / "python"), "-m", "cog.server.http", "--host", "127.0.0.1", cwd=MODEL,
                env=environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        async with asyncio.timeout(READY_S):
            while await self.status() != "READY":
                await asyncio.sleep(0.1)

    async def status(self) -> str:
        """What its health check says; "" while it does not answer."""
        with contextlib.suppress(aiohttp.ClientError, OSError):
            async with aiohttp.ClientSession() as http, http.get(f"{self.url}/health-check") as answer:
                return str((await answer.json())["status"])
        return ""

    async def until(self, status: str) -> None:
        """Wait until it says so."""
        async with asyncio.timeout(READY_S):
            while await self.status() != status:
                await asyncio.sleep(0.02)

    def began(self) -> int:
        """How many predictions have begun, by what the model has printed."""
        return self._log.read_text(errors="replace").count("step 0")

    async def kill(self) -> None:
        """End it and its worker as a crash of the machine does."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.kill()
