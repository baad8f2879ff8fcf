"""Commands about the catalogue of model files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import orjson

from switchyard.services.cli import options
from switchyard.services.cli.output import print_json, print_table, say

COLUMNS = ("model", "size_bytes", "vram_mib", "tenants", "credentials", "url")
FIELDS = ("url", "sha256", "size_bytes", "vram_mib", "tenants", "credentials")
FILE_BYTES = 16 * 1024 * 1024
PATH = click.argument("model", metavar="FOLDER/NAME")


@click.group()
def models() -> None:
    """Say which model files workers may fetch, and where."""


def _call(data_dir: Path | None, method: str, path: str = "", **sent: Any) -> Any:
    async def main() -> Any:
        async with options.gateway(data_dir) as api:
            return await api.call(method, f"/v1/models{path}", **sent)

    return options.ask(main())


def _path(model: str) -> str:
    folder, slash, name = model.partition("/")
    if not slash:
        raise click.BadParameter("FOLDER/NAME was expected, such as checkpoints/x.safetensors")
    return f"/{quote(folder, safe='')}/{quote(name, safe='')}"


def _secret(value: str, option: str) -> str:
    """What an option says; `-` reads a line of standard input, since arguments are seen by all users."""
    if value != "-":
        raise click.BadParameter("secrets are read from standard input: give `-`", param_hint=option)
    return sys.stdin.readline().strip()


@models.command("put")
@PATH
@click.option("--url", required=True, metavar="URL", help="Where it is fetched.")
@click.option("--sha256", required=True, metavar="HEX", help="That of the whole file.")
@click.option("--size-bytes", required=True, type=click.IntRange(1), help="Exactly.")
@click.option("--vram-mib", type=click.IntRange(0), default=0, help="Memory that the GPU has to have.")
@click.option("--for-tenant", multiple=True, help="For whose jobs it is fetched; repeatable. All by default.")
@click.option("--bearer", metavar="-", help="A token that the request carries, read from standard input.")
@click.option(
    "--header", multiple=True, metavar="NAME=-",
    help="A header that the request carries; its value is read from standard input. Repeatable.",
)  # fmt: skip
@click.option("--no-credentials", is_flag=True, help="The request carries none, and no earlier ones.")
@options.as_json
@options.data_dir
def put(
    model: str,
    bearer: str | None,
    header: tuple[str, ...],
    no_credentials: bool,
    as_json: bool,
    data_dir: Path | None,
    **described: Any,
) -> None:
    """Enter a file, or put another description in the place of the one that is there."""
    body = {"tenants": list(described.pop("for_tenant"))} | described
    credentials: dict[str, Any] = {}
    if bearer is not None:
        credentials["bearer"] = _secret(bearer, "--bearer")
    for one in header:
        key, _, value = one.partition("=")
        credentials.setdefault("headers", {})[key] = _secret(value, "--header")
    if credentials or no_credentials:
        body["credentials"] = None if no_credentials else credentials
    _show(_call(data_dir, "PUT", _path(model), json=body), as_json=as_json)


@models.command("list")
@options.as_json
@options.data_dir
def list_(as_json: bool, data_dir: Path | None) -> None:
    """Show the catalogue."""
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        params = [("limit", "500"), *([] if cursor is None else [("cursor", cursor)])]
        page = _call(data_dir, "GET", params=params)
        found += page["models"]
        cursor = page["cursor"]
        if cursor is None:
            break
    print_json({"models": found}) if as_json else print_table(COLUMNS, map(_row, found))


@models.command("show")
@PATH
@options.as_json
@options.data_dir
def show(model: str, as_json: bool, data_dir: Path | None) -> None:
    """Show a file of the catalogue."""
    found = _call(data_dir, "GET", _path(model))
    _show(found, as_json=as_json)
    if not as_json:
        say(f"sha256 {found['sha256']}")


@models.command("remove")
@PATH
@options.yes
@options.data_dir
def remove(model: str, yes: bool, data_dir: Path | None) -> None:
    """Take a file out of the catalogue; workers that have it keep it."""
    options.ask_person(f"Take {model} out of the catalogue?", yes=yes)
    _call(data_dir, "DELETE", _path(model))
    say(f"removed {model}")


@models.command("import")
@click.argument("file", type=click.File("rb"))
@options.data_dir
def import_(file: Any, data_dir: Path | None) -> None:
    """Enter all files of a JSON list, as `switchyard models list --json` prints it; `-` reads standard input.

    It stops at the first that is refused; those before it stand.
    """
    try:
        found = orjson.loads(file.read(FILE_BYTES + 1))
    except orjson.JSONDecodeError as error:
        raise click.BadParameter(f"JSON was expected: {error}", param_hint="FILE") from None
    rows = found.get("models") if isinstance(found, dict) else found
    if not isinstance(rows, list):
        raise click.BadParameter("a list of models was expected", param_hint="FILE")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("folder", "name")):
            message = f"model {number}: an object with folder and name was expected"
            raise click.BadParameter(message, param_hint="FILE")
        # A list shows the names of headers alone: what it does not have stays as it is.
        body = {
            field: row[field]
            for field in FIELDS
            if field in row and not (field == "credentials" and isinstance(row[field], list))
        }
        model = f"{row['folder']}/{row['name']}"
        _call(data_dir, "PUT", _path(model), json=body)
        say(f"entered {model}")


def _show(model: dict[str, Any], *, as_json: bool) -> None:
    print_json(model) if as_json else print_table(COLUMNS, [_row(model)])


def _row(model: dict[str, Any]) -> dict[str, Any]:
    return {
        **model, "model": f"{model['folder']}/{model['name']}",
        "tenants": ", ".join(model.get("tenants", [])), "url": model.get("url", ""),
        "credentials": ", ".join(model.get("credentials", [])),
    }  # fmt: skip
