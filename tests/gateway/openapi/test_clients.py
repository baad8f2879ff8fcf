"""Clients that tools of others make from the description submit and read a job."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path
from typing import Final

import orjson
import pytest

from tests.gateway.rest import Gateway

pytestmark = [pytest.mark.drill, pytest.mark.timeout(1200)]

STEP_S: Final = 300.0
TYPESCRIPT: Final = """
import createClient from "openapi-fetch";
import type { components, paths } from "./api";

const [baseUrl, token] = process.argv.slice(2);
const api = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${token}` } });
const payload: components["schemas"]["SimulatePayload"] = { steps: 1, fail: "none" };
const made = await api.POST("/v1/jobs", { body: { kind: "simulate", payload, priority: 60 } });
if (made.error) throw new Error(`${made.error.code}: ${made.error.detail}`);
const query = { wait: 0 };
const read = await api.GET("/v1/jobs/{id}", { params: { path: { id: made.data.id }, query } });
if (read.error) throw new Error(read.error.code);
const none = await api.GET("/v1/jobs/{id}", { params: { path: { id: "none" } } });
const same: boolean = read.data.id === made.data.id;
console.log(JSON.stringify([same, read.data.kind, read.data.priority, none.error?.code]));
"""
COMPILER: Final = {
    "compilerOptions": {
        "strict": True, "module": "esnext", "moduleResolution": "bundler", "target": "es2022",
        "lib": ["es2022", "dom", "dom.iterable"], "types": ["node"], "skipLibCheck": True, "outDir": "out",
    },
    "files": ["use.ts"],
}  # fmt: skip
PYTHON: Final = """
import json
import sys

from generated import AuthenticatedClient
from generated.api.jobs import get_v1_jobs_by_id, post_v1_jobs
from generated.models import JobRequest, JobRequestPayload, JobView, ProblemAnswer

url, token = sys.argv[1:]
payload = JobRequestPayload.from_dict({"steps": 1, "fail": "none"})
with AuthenticatedClient(base_url=url, token=token) as client:
    made = post_v1_jobs.sync(client=client, body=JobRequest(kind="simulate", payload=payload, priority=60))
    assert isinstance(made, JobView), made
    read = get_v1_jobs_by_id.sync(made.id, client=client)
    assert isinstance(read, JobView), read
    none = get_v1_jobs_by_id.sync("none", client=client)
    assert isinstance(none, ProblemAnswer), none
    print(json.dumps([read.id == made.id, read.kind, read.priority, none.code]))
"""
DONE: Final = [True, "simulate", 60, "not_found"]


async def ran(place: Path, *command: str | Path) -> tuple[int, str]:
    """Run a program in a directory: its status, and all that it says."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=place, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(STEP_S):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, said.decode(errors="replace")


async def must(place: Path, *command: str | Path) -> str:
    """What a program says that has to end well."""
    status, said = await ran(place, *command)
    assert status == 0, said
    return said


async def needed(place: Path, *command: str | Path) -> None:
    """Install something, or skip the test."""
    status, said = await ran(place, *command)
    if status:
        pytest.skip(f"{' '.join(map(str, command))} failed: {said[-300:]}")


async def test_typescript_client_submits_and_reads_a_job(api: Gateway, tmp_path: Path) -> None:
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed")
    place = tmp_path / "typescript"
    place.mkdir()
    (place / "package.json").write_bytes(orjson.dumps({"name": "use", "private": True, "type": "module"}))
    (place / "tsconfig.json").write_bytes(orjson.dumps(COMPILER))
    (place / "use.ts").write_text(TYPESCRIPT)
    tools = ("typescript@5", "@types/node@20", "openapi-typescript@7", "openapi-fetch@0")
    await needed(place, "npm", "install", "--no-audit", "--no-fund", *tools)
    make = ("--default-non-nullable", "false", "-o", "api.ts")
    await must(place, "npx", "openapi-typescript", f"{api.url}/openapi.json", *make)
    await must(place, "npx", "tsc", "-p", ".")
    said = await must(place, "node", "out/use.js", api.url, api.token("submitter"))
    assert orjson.loads(said) == DONE


async def test_python_client_submits_and_reads_a_job(api: Gateway, tmp_path: Path) -> None:
    place = tmp_path / "python"
    place.mkdir()
    (place / "use.py").write_text(PYTHON)
    await must(place, sys.executable, "-m", "venv", "own")
    python = place / "own" / "bin" / "python"
    await needed(place, python, "-m", "pip", "install", "--quiet", "openapi-python-client>=0.26", "ruff")
    (place / "config.json").write_text('{"post_hooks": []}')
    make = ("--config", "config.json", "--meta", "none", "--output-path", "generated")
    await must(
        place, python, "-m", "openapi_python_client", "generate", "--url", f"{api.url}/openapi.json", *make
    )
    said = await must(place, python, "use.py", api.url, api.token("submitter"))
    assert orjson.loads(said) == DONE
