"""`switchyard submit`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import click

from switchyard.errors import ApiError, InvalidValueError
from switchyard.services.cli import options
from switchyard.services.cli.client import Api, key_header
from switchyard.services.cli.commands.left.ends import shown_at_end
from switchyard.services.cli.commands.submission.fields import body_of, fields
from switchyard.services.cli.commands.submission.kinds import hint
from switchyard.services.cli.gateway.ids import whole_id
from switchyard.services.cli.json_option import object_of
from switchyard.services.cli.options import labels_of

LARGE_BYTES: Final = 64 << 20


@click.command()
@click.option("--kind", help="Kind of the job; needed without --workflow.")
@click.option(
    "--file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Input file: it is uploaded first, and named in the payload as `file`.",
)
@click.option("--payload", help="Payload as JSON, or @FILE.")
@click.option("--workflow", metavar="NAME", help="A workflow, NAME or NAME@VERSION, in place of a kind.")
@click.option("--inputs", metavar="JSON|@FILE", help="What the inputs of the workflow are, by name.")
@click.option("--label", multiple=True, metavar="KEY=VALUE", help="A label; repeatable.")
@fields
@click.option("--tenant", metavar="NAME", help="Whose job it is, for those who may act for others.")
@click.option("--erasable", is_flag=True, help="Its content, and that of --file, can be erased for good.")
@click.option("--idempotency-key", help="The same key and request give the same job.")
@click.option("--wait", is_flag=True, help="Wait for the end with a progress bar, then print the result.")
@click.option("--timeout", type=float, metavar="SECONDS", help="Longest time to wait; by default no limit.")
@options.as_json
@options.data_dir
def submit(
    *,
    kind: str | None,
    file: Path | None,
    payload: str | None,
    workflow: str | None,
    inputs: str | None,
    label: tuple[str, ...],
    tenant: str | None,
    erasable: bool,
    idempotency_key: str | None,
    wait: bool,
    timeout: float | None,
    as_json: bool,
    data_dir: Path | None,
    **given: Any,
) -> None:
    """Submit a job; with --wait, print its result (for `convert`, the Markdown)."""
    body = _what(kind, payload, workflow, inputs, has_file=file is not None)
    body |= {"labels": labels_of(label), **body_of(given)} | ({"erasable": True} if erasable else {})

    if tenant is not None and (file is not None or wait):
        raise click.UsageError("--tenant: not together with --file or --wait")

    async def main() -> int:
        async with options.gateway(data_dir) as api:
            if depends_on := body.get("depends_on"):
                body["depends_on"] = [await whole_id(api, job_id) for job_id in depends_on]
            job = await _made(api, body, file, idempotency_key, tenant)
            if wait or sys.stderr.isatty():
                await hint(api, job)
            return await shown_at_end(api, job, wait=wait, timeout_s=timeout, as_json=as_json)

    large = file is not None and _goes_on(file, idempotency_key)
    sys.exit(options.ask(main(), waits=wait or large))


def _what(
    kind: str | None, payload: str | None, workflow: str | None, inputs: str | None, *, has_file: bool
) -> dict[str, Any]:
    """The fields that say what is run."""
    if (kind is None) == (workflow is None):
        raise click.UsageError("one of --kind and --workflow is needed")
    if workflow is None:
        if inputs is not None:
            raise click.UsageError("--inputs: only with --workflow")
        return {"kind": kind, "payload": object_of(payload)}
    if payload is not None or has_file:
        raise click.UsageError("--workflow: not together with --payload or --file; its inputs are --inputs")
    return {"workflow": workflow, "inputs": object_of(inputs, "--inputs")}


async def _made(
    api: Api, body: dict[str, Any], file: Path | None, key: str | None, tenant: str | None
) -> dict[str, Any]:
    if file is not None:
        body["payload"]["file"] = await _stored(api, file, key, erasable=bool(body.get("erasable")))
    whose = {} if tenant is None else {"tenant": tenant}
    try:
        made = await api.call("POST", "/v1/jobs", params=whose, json=body, headers=key_header(key))
        return api.of_job(made)
    except (ApiError, InvalidValueError):
        if file is not None and not key:  # no job will ever read it
            await api.call("DELETE", f"/v1/files/{body['payload']['file']}")
        raise


async def _stored(api: Api, file: Path, key: str | None, *, erasable: bool) -> str:
    if _goes_on(file, key):
        from switchyard.services.cli.commands.left import uploads  # noqa: PLC0415 - takes long to import

        return await uploads.stored(api, file, erasable=erasable)
    return str((await api.upload(file, key, erasable=erasable))["id"])


def _goes_on(file: Path, key: str | None) -> bool:
    """Whether a file is sent so that it goes on after a break: a large one, unless its key is to find it."""
    return key is None and file.stat().st_size >= LARGE_BYTES
