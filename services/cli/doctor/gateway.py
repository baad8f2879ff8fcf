"""What `switchyard doctor` says of the gateway, and through it of the workers."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from typing import Final

from switchyard.events.errors import SwitchyardError
from switchyard.services.cli.client import connect
from switchyard.services.cli.commands.control import all_workers
from switchyard.services.cli.doctor.check import Check, clock_check
from switchyard.services.cli.errors import exit_code
from switchyard.services.run import connection_file
from switchyard.services.settings import Settings

COUNTED_WORKERS: Final = 1000


async def gateway(settings: Settings) -> AsyncIterator[Check]:
    """The gateway as a client finds it."""
    found = connection_file.read(settings.data_dir)
    if found is None and "SWITCHYARD_URL" not in os.environ:
        yield Check(
            "gateway", "warn", "none runs here", "start one with `switchyard up`, or set SWITCHYARD_URL"
        )
        return
    try:
        async with connect(settings.data_dir) as gateway:
            ready = await gateway.call("GET", "/readyz")
            yield Check("gateway", "ok", f"{gateway.url} is ready")
            if its_clock := ready["checks"].get("clock"):  # a gateway of the version before has none
                yield clock_check("gateway's clock", its_clock["ahead_s"], its_clock["error_s"])
            found_workers = await all_workers(gateway, COUNTED_WORKERS)
            damaged = _damaged((await gateway.raw("GET", "/metrics")).decode(errors="replace"))
            yield _registration(await gateway.call("GET", "/api/health"))
    except SwitchyardError as error:
        yield _refused(error)
        return
    if workers := found_workers["workers"]:
        kinds = sorted({kind for worker in workers for kind in worker["kinds"]})
        more = "" if found_workers["cursor"] is None else " and more"
        yield Check("workers", "ok", f"{len(workers)}{more}, for {', '.join(kinds)}")
    else:
        yield Check("workers", "warn", "none", "jobs wait: start one with `switchyard worker`")
    yield damaged


def _registration(health: dict[str, str]) -> Check:
    """Whether anybody may register a scope at Octopoid's API."""
    if health.get("registration") != "open":
        return Check("registration", "ok", "closed: Octopoid's scopes need a token of role registrar")
    found = "open: anybody who reaches the gateway may register a scope, submit jobs and store files"
    return Check("registration", "warn", found, "start it without SWITCHYARD_OCTOPOID_OPEN")


def _damaged(metrics: str) -> Check:
    """How many jobs of all tenants have a log that cannot be read, as the gateway counts them."""
    counts = re.findall(r"^switchyard_damaged_jobs\{[^}]*\} ([0-9.e+]+)$", metrics, re.MULTILINE)
    total = int(sum(map(float, counts)))
    if not total:
        return Check("damaged jobs", "ok", "none")
    advice = (
        "look with `switchyard list --state damaged`, then `switchyard repair` or `switchyard dead discard`"
    )
    return Check("damaged jobs", "warn", str(total), advice)


def _refused(error: SwitchyardError) -> Check:
    match exit_code(error):
        case 4:
            advice = "mint a token with `switchyard token`, and set SWITCHYARD_TOKEN"
        case 5:
            advice = "is SWITCHYARD_URL that of a gateway?"
        case _:
            advice = "start it with `switchyard up`, or look at its log"
    return Check("gateway", "fail", str(error), advice)
