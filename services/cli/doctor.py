"""`switchyard doctor`: what works, what does not, and what to do about it."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path

import aiohttp
import click

from events.errors import SwitchyardError
from services import connection_file, runtime, topology
from services.cli import options
from services.cli.output import print_json, print_table
from services.connectors import CONNECTORS
from services.nats_server import BrokerError, find_binary
from services.settings import GIB, Settings

MIN_PYTHON = (3, 11)
MIN_FREE_BYTES = 2 * GIB
MAX_SKEW_S = 2.0


@dataclass(frozen=True)
class Check:
    """One finding: `status` is ok, warn or fail; `advice` says what to do about it."""

    what: str
    status: str
    found: str
    advice: str = ""


def _python() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    ok = sys.version_info >= MIN_PYTHON
    return Check("python", "ok" if ok else "fail", found, "" if ok else "install Python 3.11 or newer")


def _disk(settings: Settings) -> Check:
    place = settings.data_dir.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    ok = free >= MIN_FREE_BYTES
    return Check(
        "disk",
        "ok" if ok else "warn",
        f"{free / GIB:.1f} GiB free",
        "" if ok else f"free some space at {place}",
    )


def _ocr() -> Check:
    found = CONNECTORS["convert"](slots=1).capabilities()["convert"]
    if found["ocr"]:
        return Check(
            "ocr", "ok", f"tesseract {found['ocr_version']}, languages {', '.join(found['ocr_languages'])}"
        )
    return Check("ocr", "warn", "no tesseract", "scans cannot be converted: apt-get install tesseract-ocr")


def _binary() -> Check:
    try:
        return Check("nats-server", "ok", str(find_binary()))
    except BrokerError as error:
        return Check("nats-server", "fail", "missing", str(error))


async def _broker(settings: Settings) -> AsyncIterator[Check]:
    found = connection_file.read(settings.data_dir)
    if settings.nats_url is None and found is None:
        yield Check("broker", "warn", "none is running here", "start one with `switchyard up`")
        return
    settings = options.with_broker(settings)
    try:
        async with runtime.connected(settings, "doctor") as nc:
            version = ".".join(
                map(str, (nc.connected_server_version.major, nc.connected_server_version.minor))
            )
            begun = time.perf_counter()
            await nc.flush(timeout=5)
            yield Check(
                "broker", "ok", f"version {version}, {(time.perf_counter() - begun) * 1000:.1f} ms away"
            )
            differences = await topology.diff(nc, replicas=settings.replicas)
            advice = (
                "; ".join(map(str, differences[:3])) + ": run `switchyard topology apply`"
                if differences
                else ""
            )
            yield Check("streams", "fail" if differences else "ok", f"{len(differences)} differences", advice)
    except SwitchyardError as error:
        yield Check("broker", "fail", str(error), "is it running? see nats.log in the data directory")


async def _gateway(settings: Settings) -> Check:
    found = connection_file.read(settings.data_dir)
    if found is None:
        return Check("gateway", "warn", "none is running here", "start one with `switchyard up`")
    try:
        timeout = aiohttp.ClientTimeout(total=5)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"{found.url}/readyz") as answer,
        ):
            if answer.status == 200:
                return Check("gateway", "ok", f"{found.url} is ready")
            return Check("gateway", "fail", f"{found.url} answers {answer.status}", await answer.text())
    except (aiohttp.ClientError, TimeoutError) as error:
        return Check(
            "gateway", "fail", f"{found.url}: {error}", "it does not answer: start it with `switchyard up`"
        )


@click.command()
@options.as_json
@options.data_dir
@options.nats
def doctor(as_json: bool, data_dir: Path | None, nats: str | None) -> None:
    """Check everything that Switchyard needs, and say what to do; exit 1 when something fails."""
    settings = options.settings_of(data_dir=data_dir, nats_url=nats)

    async def main() -> list[Check]:
        checks = [_python(), _binary(), _disk(settings), _ocr()]
        checks += [check async for check in _broker(settings)]
        return [*checks, await _gateway(settings)]

    checks = options.run(main())
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        print_table(("what", "status", "found", "advice"), map(asdict, checks))
    sys.exit(1 if any(check.status == "fail" for check in checks) else 0)
