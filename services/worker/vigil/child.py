"""The start of the process that keeps a worker's leases: it needs little, and no handler runs in it."""

from __future__ import annotations

import sys
from typing import Final

from switchyard._vigil import beside

WEB_SOCKETS: Final = ("ws://", "wss://")


def main() -> None:
    """Keep the leases of the worker at the other end of the socket, until either ends."""
    channel_fd, stacks_fd, parent = (int(argument) for argument in sys.argv[1:])
    channel, message = beside.begin(channel_fd, stacks_fd, parent)
    if not any(url.startswith(WEB_SOCKETS) for url in message["url"].split(",")):
        sys.modules["aiohttp"] = None  # type: ignore[assignment]  # half of the start, for web sockets alone
    from switchyard.services.worker.vigil import duty  # noqa: PLC0415 - what it imports depends on the message

    duty.run(message, channel, stacks_fd, parent)


if __name__ == "__main__":
    main()
