"""`switchyard workflows`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from switchyard.services.cli import options
from switchyard.services.cli.client import Api, key_header
from switchyard.services.cli.commands.left.ends import shown_at_end
from switchyard.services.cli.commands.workflows.files import asked, body_of, exported
from switchyard.services.cli.commands.workflows.inputs import inputs_of
from switchyard.services.cli.json_option import object_of
from switchyard.services.cli.options import labels_of
from switchyard.services.cli.output import print_json, print_table, say

COLUMNS = ("name", "latest", "kind", "title", "updated_at")
JOBS = ("id", "state", "inputs")
NAME = click.argument("name")
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_comfyui = click.option(
    "--comfyui", metavar="URL", help="A ComfyUI that knows the classes of a graph in the editor's form."
)
_object_info = click.option("--object-info", metavar="@FILE", help="What its GET /object_info says.")


@click.group()
def workflows() -> None:
    """Keep templates of payloads with named inputs, and make jobs of them."""


def _path(name: str, rest: str = "") -> str:
    return f"/v1/workflows/{quote(name, safe='@')}{rest}"


@workflows.command("put")
@NAME
@click.argument("file", type=FILE)
@click.option("--kind", help="That of the jobs, for a graph; comfyui by default.")
@click.option("--inputs", metavar="JSON|@FILE", help="The inputs, by name, in place of those of the file.")
@click.option("--title", help="What people call it.")
@_comfyui
@_object_info
@options.as_json
@options.data_dir
def put(
    name: str,
    file: Path,
    kind: str | None,
    inputs: str | None,
    title: str | None,
    comfyui: str | None,
    object_info: str | None,
    as_json: bool,
    data_dir: Path | None,
) -> None:
    """Make the next version of a workflow from a file: an exported one, or a graph of ComfyUI."""
    body = body_of(file, kind, object_info)
    if inputs is not None:
        body["inputs"] = object_of(inputs, "--inputs")
    if title is not None:
        body["title"] = title

    async def main() -> Any:
        async with options.gateway(data_dir) as api:
            return await _put(api, name, body, comfyui)

    made = options.ask(main(), waits=comfyui is not None)
    print_json(made) if as_json else say(f"{made['name']}@{made['version']}")


async def _put(api: Api, name: str, body: dict[str, Any], comfyui: str | None) -> Any:
    if comfyui is not None and "graph" in body and "object_info" not in body:
        info = await asked(comfyui, body["graph"])
        body |= {"object_info": info} if info else {}
    return await api.call("PUT", _path(name), json=body)


@workflows.command("import")
@click.argument("files", type=FILE, nargs=-1, required=True)
@_comfyui
@options.data_dir
def import_(files: tuple[Path, ...], comfyui: str | None, data_dir: Path | None) -> None:
    """Put workflows from files, each under the name in it, or that of the file."""

    async def main() -> None:
        async with options.gateway(data_dir) as api:
            for file in files:
                name = object_of(f"@{file}", "FILES").get("name", file.stem.lower())
                made = await _put(api, str(name), body_of(file, None, None), comfyui)
                say(f"{made['name']}@{made['version']}")

    options.ask(main(), waits=comfyui is not None)


@workflows.command("list")
@options.as_json
@options.data_dir
def list_(as_json: bool, data_dir: Path | None) -> None:
    """List workflows."""
    found = options.listed(data_dir, "/v1/workflows", "workflows")
    print_json({"workflows": found}) if as_json else print_table(COLUMNS, found)


@workflows.command("show")
@NAME
@options.as_json
@options.data_dir
def show(name: str, as_json: bool, data_dir: Path | None) -> None:
    """Show a workflow, NAME or NAME@VERSION, and what its inputs take."""
    found = options.call(data_dir, "GET", _path(name))
    if as_json:
        print_json(found)
        return
    say(f"{found['name']}@{found['version']} ({found['kind']}) {found['title']}".rstrip())
    needed = set(found["schema"]["required"])
    rows = [
        {
            "input": one, "type": found["inputs"][one]["type"], "needed": "yes" if one in needed else "",
            "default": said.get("default"), "takes": _takes(said), "about": said.get("description", ""),
        }
        for one, said in found["schema"]["properties"].items()
    ]  # fmt: skip
    print_table(("input", "type", "needed", "default", "takes", "about"), rows)


@workflows.command("versions")
@NAME
@options.data_dir
def versions(name: str, data_dir: Path | None) -> None:
    """List the versions of a workflow."""
    for number in options.call(data_dir, "GET", _path(name, "/versions"))["versions"]:
        say(f"{name}@{number}")


@workflows.command("schema")
@NAME
@options.data_dir
def schema(name: str, data_dir: Path | None) -> None:
    """Print the JSON Schema of a workflow's inputs."""
    print_json(options.call(data_dir, "GET", _path(name))["schema"])


@workflows.command("export")
@NAME
@options.data_dir
def export(name: str, data_dir: Path | None) -> None:
    """Print a workflow so that `put` and `import` take it."""
    print_json(exported(options.call(data_dir, "GET", _path(name))))


@workflows.command("delete")
@NAME
@options.yes
@options.data_dir
def delete(name: str, yes: bool, data_dir: Path | None) -> None:
    """Delete a workflow with all of its versions; the jobs that were made of it stay."""
    options.ask_person(f"Delete workflow {name} with all of its versions?", yes=yes)
    options.call(data_dir, "DELETE", _path(name))
    say(f"deleted {name}")


@workflows.command("run")
@NAME
@click.option("--input", "pairs", multiple=True, metavar="NAME=VALUE", help="An input; repeatable.")
@click.option("--inputs", metavar="JSON|@FILE", help="Inputs by name; those of --input come on top.")
@click.option("--count", type=click.IntRange(1), help="How many jobs, each with a seed of its own.")
@click.option("--priority", type=int, help="0 to 100, higher first.")
@click.option("--label", multiple=True, metavar="KEY=VALUE", help="A label; repeatable.")
@click.option("--idempotency-key", help="The same key and request give the same jobs.")
@click.option("--wait", is_flag=True, help="Wait for the end with a progress bar, then print the result.")
@click.option("--timeout", type=float, metavar="SECONDS", help="Longest time to wait; by default no limit.")
@options.as_json
@options.data_dir
def run(
    *,
    name: str,
    pairs: tuple[str, ...],
    inputs: str | None,
    count: int | None,
    priority: int | None,
    label: tuple[str, ...],
    idempotency_key: str | None,
    wait: bool,
    timeout: float | None,
    as_json: bool,
    data_dir: Path | None,
) -> None:
    """Make a job of a workflow, NAME or NAME@VERSION, or several."""
    if wait and count is not None:
        raise click.UsageError("--wait: not together with --count")
    body: dict[str, Any] = {"labels": labels_of(label)} | ({} if priority is None else {"priority": priority})

    async def main() -> int:
        async with options.gateway(data_dir) as api:
            given = object_of(inputs, "--inputs")
            if pairs:
                given |= await inputs_of(api, await api.call("GET", _path(name)), pairs)
            sent = {**body, "inputs": given}
            headers = key_header(idempotency_key)
            if count is None:
                job = await api.call("POST", "/v1/jobs", json={**sent, "workflow": name}, headers=headers)
                return await shown_at_end(api, job, wait=wait, timeout_s=timeout, as_json=as_json)
            sent["count"] = count
            made = await api.call("POST", _path(name, "/jobs"), json=sent, headers=headers)
            print_json(made) if as_json else print_table(JOBS, made["jobs"])
            return 0

    sys.exit(options.ask(main(), waits=wait))


def _takes(said: dict[str, Any]) -> str:
    if (choices := said.get("enum") or said.get("examples")) is not None:
        return ", ".join(map(str, choices[:8])) + (" …" if len(choices) > 8 else "")
    lowest, highest = said.get("minimum"), said.get("maximum")
    if lowest is None and highest is None:
        return ""
    return f"{'' if lowest is None else lowest} to {'' if highest is None else highest}".strip()
