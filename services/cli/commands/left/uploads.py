"""The command that stores a file in as many requests as it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from switchyard._client.areas.uploads import AsyncUploads, Upload
from switchyard._client.connection import Connection
from switchyard._client.transport import Transport
from switchyard.services.cli import options
from switchyard.services.cli.client import Api
from switchyard.services.cli.output import print_json, say

ANSWER_S: Final = 60.0
RETRIES: Final = 8


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--resume", metavar="URL", help="Go on with the upload that this was printed for.")
@click.option("--name", help="What the file is called; by default as it is.")
@click.option("--type", "media_type", metavar="TYPE", help="Its media type.")
@click.option("--ttl-s", type=float, metavar="SECONDS", help="How long it is kept.")
@click.option("--erasable", is_flag=True, help="Its content can be erased for good.")
@options.as_json
@options.data_dir
def upload(
    *,
    file: Path,
    resume: str | None,
    name: str | None,
    media_type: str | None,
    ttl_s: float | None,
    erasable: bool,
    as_json: bool,
    data_dir: Path | None,
) -> None:
    """Store a file, and print its id; after a break it goes on by the URL that is printed first.

    The URL goes to standard error. Nothing else is remembered: without it the upload cannot be found again.
    """
    if resume is not None and (name or media_type or ttl_s is not None or erasable):
        raise click.UsageError("--resume goes on with what was begun: leave the other options out")
    said = {"name": name, "media_type": media_type, "ttl_s": ttl_s, "erasable": erasable or None}

    async def main() -> Upload:
        api = options.gateway(data_dir)
        transport = _transport(api)
        try:
            uploads = AsyncUploads(transport)
            if resume is not None:
                return await uploads.resume(resume, file)
            given = {word: value for word, value in said.items() if value is not None}
            return await uploads.send(file, begun=_begun, **given)  # type: ignore[arg-type]
        finally:
            await transport.close()

    done = options.run(main())
    if as_json:
        print_json({"file": done.id, "size_bytes": done.length, "url": done.url})
    else:
        say(done.id)


async def stored(api: Api, file: Path, *, erasable: bool) -> str:
    """Store a large file, which goes on by itself after a break; its id."""
    transport = _transport(api)
    try:
        return (await AsyncUploads(transport).send(file, erasable=erasable, begun=_begun)).id
    finally:
        await transport.close()


def _transport(api: Api) -> Transport:
    return Transport(Connection(api.url, api.token), timeout_s=ANSWER_S, retries=RETRIES)


def _begun(begun: Upload) -> None:
    say(begun.url, err=True)
