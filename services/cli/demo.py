"""`make demo`: a real PDF through the whole platform, seen from outside."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import aiohttp

from switchyard.events.errors import SwitchyardError
from switchyard.services.cli.client import Api
from switchyard.services.cli.output import describe
from switchyard.services.run.connection_file import read

DOCUMENT: Final = Path(__file__).resolve().parents[2] / "examples" / "fieldyear.pdf"
READY_S: Final = 60.0
CONVERT_S: Final = 120.0
STOP_S: Final = 30.0
LINES: Final = 12
BAR: Final = 20


class DemoError(Exception):
    """The demo did not show what it should; the message says what went wrong."""


async def demo() -> None:
    """Start Switchyard, convert a document of some pages, show what happened, stop.

    Raises:
        DemoError: something went wrong.
        SwitchyardError: the gateway refused or was not there.
    """
    if not DOCUMENT.exists():
        raise DemoError(f"{DOCUMENT} is missing: run the demo from a checkout")
    with tempfile.TemporaryDirectory(prefix="switchyard-demo-") as directory:
        print("Starting Switchyard: broker, gateway, projector, keeper and worker …", flush=True)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "switchyard.services.cli", "--log-level", "warning",
            "up", "--port", "0", "--data-dir", directory,
            stdout=asyncio.subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        try:
            await _until_ready(process)
            await _convert(Path(directory))
        finally:
            code = await _stop(process)
        if code:
            raise DemoError(f"Switchyard stopped with exit code {code}; its log is above")
        print("\nStopped, and nothing of it is left. `make up` runs one that stays; README.md goes on there.")


async def _until_ready(process: asyncio.subprocess.Process) -> None:
    assert process.stdout is not None
    try:
        async with asyncio.timeout(READY_S):
            async for line in process.stdout:
                if line.startswith(b"ready"):
                    return
    except TimeoutError:
        raise DemoError(f"Switchyard was not ready after {READY_S:g} s; its log is above") from None
    raise DemoError("Switchyard did not start; its log is above")


async def _stop(process: asyncio.subprocess.Process) -> int:
    """End it as an operator does; its exit code."""
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_S):
            return await process.wait()
    except TimeoutError:
        process.kill()
        return await process.wait()


async def _convert(data_dir: Path) -> None:
    info = read(data_dir)
    if info is None:
        raise DemoError("Switchyard is ready but left no connection.json")
    try:
        async with Api(info.url, info.token) as api, asyncio.timeout(CONVERT_S):
            file = await api.upload(DOCUMENT)
            print(f"\nUploaded {file['name']}: {file['size_bytes']} bytes, SHA-256 {file['sha256'][:16]}…")
            body = {"kind": "convert", "payload": {"file": file["id"]}}
            job = await api.call("POST", "/v1/jobs", json=body)
            print(f"Submitted job {job['id']} over REST. Live over the WebSocket:\n")
            async for message in api.until_final(job["id"]):
                _show_live(message)
            await _show_result(api, await api.job(job["id"]))
            print("\nIts event history, every transition of the job in order:\n")
            async for event in api.history(job["id"]):
                print(f"  {event['seq']:>4}  {event['at']}  {event['type']:10} {describe(event)}".rstrip())
    except TimeoutError:
        raise DemoError(f"the document was not converted after {CONVERT_S:g} s") from None


def _show_live(message: dict[str, Any]) -> None:
    match message["type"]:
        case "event":
            print(f"  event     {message['event']['type']}", flush=True)
        case "progress":
            progress = message["progress"]
            bar = "█" * round(progress["fraction"] * BAR)
            print(
                f"  progress  {bar:░<{BAR}} {progress['fraction']:4.0%}  {progress.get('message') or ''}",
                flush=True,
            )


async def _show_result(api: Api, job: dict[str, Any]) -> None:
    if job["state"] != "succeeded":
        raise DemoError(f"the job is {job['state']}: {(job['error'] or {}).get('message') or job['reason']}")
    text = b"".join([chunk async for chunk in api.output(job)]).decode()
    print(f"\nThe Markdown of {job['result']['pages']} page(s), its first lines:\n")
    print("\n".join(f"  {line}".rstrip() for line in text.splitlines()[:LINES]))


def main() -> int:
    """Run the demo; the exit code."""
    if shutil.which("tesseract") is None:
        print("tesseract is missing; this document has a text layer and does not need it.")
    try:
        asyncio.run(demo())
    except (DemoError, SwitchyardError, aiohttp.ClientError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
