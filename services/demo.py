"""`make demo`: a real PDF through the whole platform, seen from outside."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from services.cli.client import Api
from services.cli.output import describe
from services.connection_file import read

DOCUMENT = Path(__file__).parents[1] / "examples" / "fieldreport.pdf"
READY_S = 60.0
CONVERT_S = 120.0
STOP_S = 30.0
LINES = 12


async def main() -> int:
    """Start Switchyard, convert a document, show what happened, stop."""
    if not DOCUMENT.exists():
        print(f"{DOCUMENT} is missing")
        return 1
    with tempfile.TemporaryDirectory(prefix="switchyard-demo-") as directory:
        data_dir = Path(directory)
        print("Starting Switchyard: broker, gateway, projector, keeper and worker …", flush=True)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.cli", "--log-level", "warning",
            "up", "--port", "0", "--data-dir", directory,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            await _until_ready(process)
            await _convert(data_dir)
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(STOP_S):
                code = await process.wait()
    print(f"\nStopped; exit code {code}.")
    return code


async def _until_ready(process: asyncio.subprocess.Process) -> None:
    if process.stdout is None:
        raise AssertionError("its output is a pipe")
    async with asyncio.timeout(READY_S):
        async for line in process.stdout:
            if line.startswith(b"ready"):
                return
    raise RuntimeError("Switchyard did not start; its log is above")


async def _convert(data_dir: Path) -> None:
    info = read(data_dir)
    if info is None:
        raise RuntimeError("Switchyard is ready but left no connection.json")
    async with Api(info.url, info.token) as api, asyncio.timeout(CONVERT_S):
        file = await api.upload(DOCUMENT)
        print(f"\nUploaded {file['name']}: {file['size_bytes']} bytes, SHA-256 {file['sha256'][:16]}…")
        body = {"kind": "convert", "payload": {"file": file["id"]}}
        job = await api.call("POST", "/v1/jobs", json=body)
        print(f"Submitted job {job['id']}. Live over the WebSocket:\n")
        async for message in api.until_final(job["id"]):
            if message["type"] == "event":
                print(f"  event     {message['event']['type']}", flush=True)
            elif message["type"] == "progress":
                progress = message["progress"]
                print(f"  progress  {progress['fraction']:4.0%} {progress.get('message') or ''}", flush=True)
        job = await api.job(job["id"])
        if job["state"] != "succeeded":
            raise RuntimeError(f"the job is {job['state']}: {job['error']}")
        text = job["result"]["markdown"] or ""
        print(f"\nThe Markdown ({job['result']['pages']} pages), its first lines:\n")
        print("\n".join(f"  {line}" for line in text.splitlines()[:LINES]))
        print("\nThe history of the job, as `switchyard history` and the nats CLI show it:\n")
        for event in (await api.call("GET", f"/v1/jobs/{job['id']}/events"))["events"]:
            print(
                f"  {event['seq']:>4} {event['at']} {event['type']:10} {event['actor']:28} {describe(event)}"
            )
        print(f"\n  nats stream view JOBS --subject 'job.{job['id']}.>'")


if __name__ == "__main__":
    if shutil.which("tesseract") is None:
        print("tesseract is missing: the demo's document has a text layer and does not need it.")
    sys.exit(asyncio.run(main()))
