"""`switchyard status`: a gateway and its work at a glance."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from switchyard.errors import ApiError
from switchyard.services.cli import options
from switchyard.services.cli.client import Api
from switchyard.services.cli.output import print_fields, print_json

STATES: Final = ("waiting", "running", "scheduled", "blocked", "retrying", "review", "cancelling")


@click.command()
@options.as_json
@options.data_dir
def status(as_json: bool, data_dir: Path | None) -> None:
    """Show the gateway, who you are there, who works and what waits; exit 3 when it is not ready."""

    async def main() -> dict[str, Any]:
        async with options.gateway(data_dir) as api:
            return await _status(api)

    found = options.ask(main())
    print_json(found) if as_json else print_fields(_in_words(found))
    if not found["ready"]:
        raise click.exceptions.Exit(3)


async def _status(api: Api) -> dict[str, Any]:
    who = await api.call("GET", "/v1/whoami")
    workers = [worker async for worker in api.pages("/v1/workers", "workers")]
    queues = (await api.page("/v1/queues", "queues"))["queues"]
    jobs = {state: sum(queue[state] for queue in queues) for state in STATES}
    waited = [queue["oldest_waiting_at"] for queue in queues if queue["oldest_waiting_at"]]
    ready, why = await _ready(api)
    return {
        "url": api.url, "version": (await api.call("GET", "/v1/version"))["version"], "ready": ready,
        "not_ready": why, "tenant": who["tenant"], "actor": who["actor"], "roles": who["roles"],
        "workers": len(workers), "slots": sum(worker["slots"] for worker in workers),
        "busy": sum(worker["running"] for worker in workers), "jobs": jobs,
        "unserved": sorted({one["kind"] for one in queues if one["waiting"] and not one["fitting_workers"]}),
        "oldest_waiting_at": min(waited, default=None),
    }  # fmt: skip


async def _ready(api: Api) -> tuple[bool, str]:
    try:
        await api.call("GET", "/readyz")
    except ApiError as error:
        return False, str(error)
    return True, ""


def _in_words(found: dict[str, Any]) -> dict[str, Any]:
    jobs = ", ".join(f"{count} {state}" for state, count in found["jobs"].items() if count) or "none"
    return {
        "gateway": f"{found['url']}, version {found['version']}",
        "ready": "yes" if found["ready"] else f"no: {found['not_ready']}",
        "you": f"{found['actor']} of tenant {found['tenant']}: {', '.join(found['roles'])}",
        "workers": f"{found['workers']}, {found['busy']} of {found['slots']} slots busy",
        "jobs": jobs,
        "nobody runs": ", ".join(found["unserved"]),
    }
