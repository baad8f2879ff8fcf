"""Users and rights for a broker of one's own."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from switchyard.events.errors import SwitchyardError
from switchyard.services.broker.rights import files, users
from switchyard.services.broker.rights.nkeys import NKeyError, inbox_prefix
from switchyard.services.broker.rights.table import Part
from switchyard.services.cli import options
from switchyard.services.cli.output import say

if TYPE_CHECKING:
    from switchyard.services.settings import Settings


@click.command("nats-config")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Directory of the server's file and the keys; made when it is not there.",
)
@click.option(
    "--part",
    "parts",
    type=click.Choice(users.ALONE),
    multiple=True,
    help="A part that is to have a user; all of them by default.",
)
@click.option("--worker", "workers", multiple=True, metavar="NAME", help="A worker that is to have a user.")
@click.option(
    "--rotate", multiple=True, metavar="USER", help="Give a user a new key: a part, or worker-NAME."
)
@click.option(
    "--remove",
    multiple=True,
    metavar="USER",
    help="Take a user away, with its key's file: a part, or worker-NAME.",
)
@click.option(
    "--check", is_flag=True, help="Change nothing; try the keys in the directory at the broker that runs."
)
@options.nats
@options.data_dir
@click.option("--yes", is_flag=True, help="Do not ask, and write over files that were changed by hand.")
def nats_config(
    out: Path,
    parts: tuple[Part, ...],
    workers: tuple[str, ...],
    rotate: tuple[str, ...],
    remove: tuple[str, ...],
    check: bool,
    nats: str | None,
    data_dir: Path | None,
    yes: bool,
) -> None:
    """Write users, keys and rights for a broker of your own: each part may do what it must, and no more."""
    if check:
        if parts or workers or rotate or remove:
            raise click.UsageError(
                "--check changes nothing: leave --part, --worker, --rotate and --remove out"
            )
        settings = options.with_broker(options.settings_of(data_dir=data_dir, nats_url=nats))
        sys.exit(options.run(_check(out, settings)))
    if nats is not None:
        raise click.UsageError("--nats is for --check: nothing else speaks to a broker")
    gone = [*remove, *rotate]
    if gone:
        options.confirm(f"The keys of {', '.join(gone)} will not be taken any more. Go on?", yes=yes)
    changes = bool(workers or rotate or remove)
    wanted = list(parts or (() if changes and (out / users.USERS).exists() else users.ALONE))
    done = users.change(
        out, parts=wanted, workers=list(workers), rotate=list(rotate), remove=list(remove), force=yes
    )
    for path in done.made:
        say(f"made {path}: a secret, for SWITCHYARD_NATS_CREDENTIALS where it is used")
    for name in done.kept:
        say(f"left {name} as it was")
    for name in done.removed:
        say(f"removed {name}")
    say(f"wrote {out / users.SERVER}")
    home = out.resolve()
    say(
        f'next: include "{home.name}/{users.SERVER}" in a configuration of nats-server in {home.parent}, or '
        "the path from where that lies, for it takes one that begins with / from there too. It has jetstream "
        "and no authorization; start it, or have it read the file again with `nats-server --signal reload`; "
        "lay out the streams once with `switchyard topology apply` and topology.nk"
    )
    there = users.read(out)
    if "operator" in there.parts and done.made:
        prefix = inbox_prefix(there.parts["operator"])
        key = shlex.quote(str(users.key_file(out, "operator")))
        say(f"the nats command: nats --nkey {key} --inbox-prefix {prefix}")


async def _check(out: Path, settings: Settings) -> int:
    """Try each key that is in the directory; 1 when one is refused or lacks something."""
    from switchyard.services.broker import connection  # noqa: PLC0415 - the rest needs no broker
    from switchyard.services.broker.rights.check import lacking  # noqa: PLC0415 - likewise

    there = users.read(out)
    known: list[tuple[Part, str]] = [(part, "") for part in sorted(there.parts)]
    known += [("worker", name) for name in sorted(there.workers)]
    if not known:
        raise click.ClickException(f"{out / users.USERS} names nobody: is it the right directory?")
    status = 0
    for part, worker in known:
        path = users.key_file(out, part, worker)
        if not path.exists():
            say(f"{path.name}: not here, so not tried")
            continue
        try:
            nc = await connection.connect(
                str(settings.nats_url), name="check", timeout_s=settings.request_timeout_s,
                credentials=files.read(path),
            )  # fmt: skip
        except (SwitchyardError, NKeyError) as error:
            say(f"{path.name}: {error}")
            status = 1
            continue
        try:
            lacks = await lacking(nc, part, timeout_s=settings.request_timeout_s)
        finally:
            await nc.close()
        if lacks:
            say(f"{path.name}: may not {'; '.join(lacks)}")
            status = 1
        else:
            say(f"{path.name}: may do all that it must")
    return status
