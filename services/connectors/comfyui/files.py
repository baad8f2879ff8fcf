"""Files on their way: inputs to the server, and what nodes have made back from it."""

from __future__ import annotations

import asyncio
import hmac
import mimetypes
import re
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from switchyard.services.connectors.comfyui.api import Api, AwayError, TooLargeError, parsed
from switchyard.services.connectors.comfyui.graph import INPUTS, Graph, title_of
from switchyard.services.connectors.images.embedded import said_by_file, strip_file
from switchyard.services.connectors.protocol import Attempt, BusyError, FatalError, RetryableError

TRIES: Final = 3
AGAIN_S: Final = 0.5
SEEN_S: Final = 2.0
OUTPUTS: Final = 1_000
TEXT_CHARS: Final = 64 * 1024
OCTETS: Final = "application/octet-stream"
TYPES: Final = {
    ".webp": "image/webp",
    ".glb": "model/gltf-binary",
    ".flac": "audio/flac",
    ".safetensors": OCTETS,
}


# --- Inputs


class Sent(NamedTuple):
    """Files of a job at the server, by the names that the graph has for them.

    Args:
        names: what the server calls them.
        contents: what says which they are, wherever they were put.
    """

    names: dict[str, str]
    contents: dict[str, str]


class Folders:
    """Where the files of each tenant go, which nobody can guess who has not sent them."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)

    def of(self, tenant: str) -> str:
        """A tenant's; another one after a restart of the worker."""
        name = hmac.new(self._secret, tenant.encode(), "sha256").hexdigest()[:32]
        return f"{INPUTS}/{name}"


async def send_inputs(api: Api, attempt: Attempt, files: Mapping[str, str], folder: str) -> Sent:
    """Give the server the files of a job.

    They are named by their content, so one that is sent again is the same file there.

    Raises:
        BusyError: the server is away.
        RetryableError: it does not take them.
        FatalError: there is no such file, or it is too large for the server.
    """
    found = Sent({}, {})
    path = attempt.scratch / "input"
    for number, (name, file_id) in enumerate(files.items()):
        attempt.progress(0.0, stage="uploading", message=f"file {number + 1} of {len(files)}")
        file = await attempt.fetch(file_id, path)
        suffix = _suffix(name) or _suffix(str(file.get("name") or ""))
        found.contents[name] = content = f"{file['sha256'][:40]}{suffix}"
        found.names[name] = await _sent(api, path, content, folder)
        path.unlink(missing_ok=True)
    return found


async def _sent(api: Api, path: Path, name: str, subfolder: str) -> str:
    for turn in range(TRIES):
        try:
            status, body = await api.upload(path, name, subfolder)
            said = await parsed(body) if status == 200 else None
        except AwayError as error:
            status, said = 500 if error.answered else 0, None
        if isinstance(said, dict) and isinstance(said.get("name"), str):
            folder = said.get("subfolder")
            return f"{folder}/{said['name']}" if isinstance(folder, str) and folder else str(said["name"])
        if status == 413:
            raise FatalError("file_too_large", "ComfyUI does not take an input file of that size")
        if turn + 1 < TRIES:
            await asyncio.sleep(AGAIN_S)
    if status:
        raise RetryableError("backend_failed", f"ComfyUI does not take an input file: it answers {status}")
    raise BusyError("backend_away", "ComfyUI did not take an input file")


def _suffix(name: str) -> str:
    return found[0].lower() if (found := re.search(r"\.[A-Za-z0-9]{1,10}\Z", name)) else ""


# --- Outputs


class Output(NamedTuple):
    """A file that a node has made, as the history names it."""

    node: str
    kind: str
    filename: str
    subfolder: str
    folder: str


class Shown(NamedTuple):
    """All that the nodes have shown: files, and texts by node and key."""

    files: list[Output]
    texts: list[dict[str, str]]


def shown_in(entry: Mapping[str, Any], wanted: list[str] | None) -> Shown:
    """What an entry of the history has of the nodes that are wanted; None for all.

    Raises:
        FatalError: code `too_many_outputs`.
    """
    outputs = entry.get("outputs")
    shown = Shown([], [])
    for node, kinds in outputs.items() if isinstance(outputs, dict) else ():
        if (wanted is None or node in wanted) and isinstance(kinds, dict):
            for kind, values in kinds.items():
                _add(shown, node, kind, values)
    if len(shown.files) + len(shown.texts) > OUTPUTS:
        raise FatalError("too_many_outputs", f"the graph has made more than {OUTPUTS} outputs")
    return shown


def _add(shown: Shown, node: str, kind: str, values: Any) -> None:
    for value in values if isinstance(values, list) else [values]:
        match value:
            case {"filename": str(filename)} if filename:
                folder, where = value.get("subfolder"), value.get("type")
                output = Output(
                    node, kind, filename, folder if isinstance(folder, str) else "",
                    where if isinstance(where, str) else "output",
                )  # fmt: skip
                if output not in shown.files:
                    shown.files.append(output)
            case str():
                shown.texts.append({"node": node, "kind": kind, "text": value[:TEXT_CHARS]})
            case bool() | None:  # "animated" says of images that they move
                pass
            case _:
                text = orjson.dumps(value).decode()[:TEXT_CHARS]
                shown.texts.append({"node": node, "kind": kind, "text": text})


def artifact_names(files: list[Output]) -> Iterator[str]:
    """A name for each, unlike the others, of characters that artifacts may have."""
    taken: set[str] = set()
    for file in files:
        base = re.split(r"[\\/]", file.filename)[-1]
        plain = re.sub(r"[^A-Za-z0-9._-]", "_", base).lstrip(".")[-80:] or "output"
        node = re.sub(r"[^A-Za-z0-9._-]", "_", file.node)[:12].lstrip(".")
        names = iter((plain, f"{node}-{plain}", *(f"{number}-{plain}" for number in range(2, OUTPUTS + 3))))
        name = next(each for each in names if each not in taken)
        taken.add(name)
        yield name


class Fetched(NamedTuple):
    """Artifacts, and what the result says of each."""

    artifacts: tuple[dict[str, Any], ...]
    outputs: list[dict[str, Any]]


async def fetch_outputs(
    api: Api, attempt: Attempt, files: list[Output], graph: Graph, most_bytes: int, *, keep: bool = True
) -> Fetched:
    """Store what nodes have made; `keep` says whether images say how they were made.

    Raises:
        FatalError: code `output_too_large`.
        RetryableError: code `output_missing`, or the server does not give it.
    """
    artifacts, outputs = [], []
    left = most_bytes
    for number, (file, name) in enumerate(zip(files, artifact_names(files), strict=True)):
        attempt.progress(1.0, stage="fetching", message=f"file {number + 1} of {len(files)}")
        path = attempt.scratch / f"output-{number}"
        await _fetched(api, attempt, file, path, left, most_bytes)
        left -= path.stat().st_size
        if not keep:
            await asyncio.to_thread(strip_file, path)
        said = await asyncio.to_thread(said_by_file, path)
        suffix = _suffix(file.filename)
        media_type = TYPES.get(suffix) or mimetypes.types_map.get(suffix, OCTETS)
        artifact = await attempt.save(name, path, media_type=media_type)
        path.unlink(missing_ok=True)
        artifacts.append(artifact)
        node = graph.get(file.node)
        outputs.append(
            {
                "artifact": name, "node": file.node, "title": title_of(graph, file.node),
                "class_type": node.get("class_type") if isinstance(node, dict) else None, "kind": file.kind,
                "filename": file.filename[:255],
            }
            | ({"embedded": said.names} if said.names else {})
            | ({"parameters": said.parameters} if said.parameters else {})
        )  # fmt: skip
    return Fetched(tuple(artifacts), outputs)


async def _fetched(api: Api, attempt: Attempt, file: Output, path: Path, left: int, most_bytes: int) -> None:
    query = {"filename": file.filename, "subfolder": file.subfolder, "type": file.folder}
    said = ""
    for turn in range(TRIES):
        try:
            status = await api.download(query, path, left, attempt.seen)
        except TooLargeError:
            raise FatalError(
                "output_too_large", f"the files of the prompt have more than {most_bytes} bytes"
            ) from None
        except AwayError as error:
            said = str(error)
        else:
            if status == 200:
                return
            if status < 500:
                raise RetryableError(
                    "output_missing", f"node {file.node}: ComfyUI does not give {file.kind}: {status}"
                )
            said = f"it answers {status}"
        if turn + 1 < TRIES:
            await asyncio.sleep(AGAIN_S * 2**turn)
    raise RetryableError("output_not_fetched", f"node {file.node}: a file could not be fetched: {said}")
