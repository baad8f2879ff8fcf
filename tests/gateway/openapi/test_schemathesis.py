"""Schemathesis tries the API by its description, and finds no 5xx and no answer that is not described."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.broker.shared import SharedBroker
from tests.gateway.octopoid.client import Octopoid
from tests.gateway.rest import Gateway, gateway
from tests.sizes import sizes

ROOT: Final = Path(__file__).parents[3]
CHECKS: Final = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance",
    "response_headers_conformance", "response_schema_conformance", "documented_code",
)  # fmt: skip
ASIDE: Final = "/stream$|/v1/watch|/v1/ws|^/ws/|/api/jobs/.*/progress|/readyz|^/health$"
"""What has no end, what no request of HTTP alone gets an answer of, and what is a 503 without a keeper."""
OCTOPOID: Final = "^/api/(v1|health)"
BRIEF: Final = ("--phases", "fuzzing", "--max-examples", "1", "--seed", "7", "--no-shrink")
LONG: Final = ("--phases", "examples,coverage,fuzzing,stateful", "--max-examples", "100")


def configure(place: Path, key: str) -> None:
    place.mkdir()
    schemes = (("token", "bearer"), ("apiKey", "api_key"), ("scopeKey", "bearer"))
    auth = "".join(f'[auth.openapi.{name}]\n{kind} = "{key}"\n' for name, kind in schemes)
    (place / "schemathesis.toml").write_text(f'hooks = "tests.gateway.openapi.hooks"\n{auth}')


async def tried(api: Gateway, place: Path, key: str, *options: str, limit_s: float) -> tuple[int, str]:
    """How trying went: 0 where nothing was found; and what schemathesis has to say.

    Args:
        api: the gateway.
        place: an empty directory.
        key: a token or key that opens everything that is tried.
        options: those of schemathesis.
        limit_s: after which it is given up.
    """
    configure(place, key)
    variables = {"PYTHONPATH": str(ROOT), "HYPOTHESIS_STORAGE_DIRECTORY": str(place / "examples")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "schemathesis.cli", "run", f"{api.url}/openapi.json",
        "--checks", ",".join(CHECKS), "--workers", "1", "--warnings", "off", "--request-timeout", "60",
        "--continue-on-failure", *options,
        cwd=place, env={**os.environ, **variables},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(limit_s):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, said.decode(errors="replace")


async def of_scope(api: Gateway) -> str:
    scope = Octopoid(api)
    assert (await scope.register()).status == 201
    return scope.key


async def both(broker: SharedBroker, place: Path, *options: str, limit_s: float) -> None:
    """Try all as an admin, and Octopoid's API with the key of a scope."""
    async with gateway(broker.url, place / "data", wait_s=0.2, answer_s=60, ilios_wait_s=0.2) as api:
        ours = ("--exclude-path-regex", f"{OCTOPOID}|{ASIDE}")
        admin = api.token("admin", "operator", ttl_s=2 * limit_s)
        status, said = await tried(api, place / "v1", admin, *ours, *options, limit_s=limit_s)
        assert status == 0, said
        theirs = ("--include-path-regex", OCTOPOID)
        status, said = await tried(
            api, place / "octopoid", await of_scope(api), *theirs, *options, limit_s=limit_s
        )
        assert status == 0, said


@pytest.mark.usefixtures("many_may_fail")
@pytest.mark.parametrize("options", sizes(BRIEF, LONG, timeout_s=3600))
async def test_every_answer_to_odd_requests_is_described(
    shared_broker: SharedBroker, tmp_path: Path, options: tuple[str, ...]
) -> None:
    await both(shared_broker, tmp_path, *options, limit_s=1700)
