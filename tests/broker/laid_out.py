"""A broker that has all streams, consumers and buckets when it starts.

To lay them out costs more than most tests do. It is done once in a process; the other brokers find in
their directory what the first one wrote there of each stream and consumer.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final, NamedTuple

from switchyard.services.broker import connection, topology, topology_spec
from switchyard.services.broker.server.server import NatsServer, start_broker

STORE: Final = "broker/jetstream"
LAID_OUT: Final[set[str]] = set()
"""Brokers, each with a password of its own, on which this process has laid out all."""


class _Layout(NamedTuple):
    """What a broker that has everything, and nothing in it, has in its directory.

    Args:
        directories: those with files, and those above them, each after the one that it is in.
        files: path and content of each; what the broker makes itself is left out.
        in_memory: streams that are not in the directory.
    """

    directories: tuple[str, ...]
    files: tuple[tuple[str, bytes], ...]
    in_memory: tuple[str, ...]


_found: list[_Layout] = []


async def start_laid_out(data_dir: Path) -> NatsServer:
    """Start a broker of a new directory, on which `topology.apply` would change nothing."""
    if not _found:
        _found.append(await _laid_out())
    layout = _found[0]
    for directory in layout.directories:
        (data_dir / directory).mkdir(mode=0o700)
    for path, content in layout.files:
        (data_dir / path).write_bytes(content)
    server = await start_broker(data_dir)
    nc = await connection.connect(server.url, name="layout")
    try:
        for name in layout.in_memory:
            await topology.restore_stream(nc, name)
    finally:
        await nc.close()
    LAID_OUT.add(server.url)
    return server


async def _laid_out() -> _Layout:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        server = await start_broker(place)
        try:
            nc = await connection.connect(server.url, name="layout")
            await topology.apply(nc)
            await nc.close()
        finally:
            await server.stop()
        files = sorted(path for path in (place / STORE).rglob("meta.*") if path.is_file())
        above = {parent for path in files for parent in path.relative_to(place).parents} - {Path()}
        return _Layout(
            tuple(str(each) for each in sorted(above, key=lambda path: len(path.parts))),
            tuple((str(path.relative_to(place)), path.read_bytes()) for path in files),
            tuple(stream.name for stream in topology_spec.load().streams if stream.storage == "memory"),
        )
