"""The broker's time counts, and nothing reads another clock."""

from __future__ import annotations

import ast
import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog
from nats.aio.client import Client

from switchyard.services.broker import connection as broker
from switchyard.services.broker import topology
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.clock import BrokerClock, time_in
from tests.worker.cable import open_cable

ROOT = Path(__file__).parents[1]
HOST_CLOCKS = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today", "date.today"}
DEADLINE_S = 90.0
TRUE = datetime(2030, 1, 1, tzinfo=UTC)


class Hands:
    """The clocks of a host, moved by hand: a steady one, and one that anybody may set."""

    def __init__(self) -> None:
        self.steady_s = 1000.0
        self.host_s = TRUE.timestamp()

    def pass_s(self, seconds: float) -> None:
        """Let time pass."""
        self.steady_s += seconds
        self.host_s += seconds

    def clock(self) -> BrokerClock:
        """A clock that follows these."""
        return BrokerClock(lambda: self.steady_s, lambda: self.host_s)


def learn(clock: BrokerClock, hands: Hands, said: datetime, *, way_s: float, there: float = 0.5) -> None:
    """Let an answer come that took so long, of which it was on its way there for that share."""
    sent_s = hands.steady_s
    hands.pass_s(way_s)
    clock.learn(said + timedelta(seconds=way_s * there), sent_s, hands.steady_s)


def off_s(clock: BrokerClock, true: datetime) -> float:
    return abs((clock.now() - true).total_seconds())


def test_the_time_is_the_hosts_until_the_broker_has_said_its_own() -> None:
    hands = Hands()
    clock = hands.clock()
    assert clock.now() == TRUE
    assert (clock.is_known, clock.offset_s()) == (False, 0.0)


@pytest.mark.parametrize("shift_s", [-3600, -300, 300, 3600])
def test_a_host_that_is_off_has_the_brokers_time(shift_s: float) -> None:
    hands = Hands()
    hands.host_s += shift_s
    clock = hands.clock()
    learn(clock, hands, TRUE, way_s=0.01)
    assert off_s(clock, TRUE + timedelta(seconds=0.01)) < 0.001
    assert clock.offset_s() == pytest.approx(shift_s, abs=0.001)
    hands.pass_s(50)
    assert off_s(clock, TRUE + timedelta(seconds=50.01)) < 0.001


@pytest.mark.parametrize("jump_s", [-3600, 3600])
def test_setting_the_hosts_clock_changes_nothing(jump_s: float) -> None:
    hands = Hands()
    clock = hands.clock()
    learn(clock, hands, TRUE, way_s=0)
    hands.host_s += jump_s
    assert off_s(clock, TRUE) < 0.001
    assert clock.offset_s() == pytest.approx(jump_s)


def test_an_answer_that_came_a_long_way_does_not_spoil_a_good_estimate() -> None:
    hands = Hands()
    clock = hands.clock()
    learn(clock, hands, TRUE, way_s=0.001)
    hands.pass_s(60)
    learn(clock, hands, TRUE + timedelta(seconds=60.001), way_s=2, there=1.0)
    assert off_s(clock, TRUE + timedelta(seconds=62.001)) < 0.002


@pytest.mark.parametrize("jump_s", [-3600, -1.5, 1.5, 3600])
def test_a_broker_whose_clock_was_set_is_followed_at_once(jump_s: float) -> None:
    hands = Hands()
    clock = hands.clock()
    learn(clock, hands, TRUE, way_s=0.001)
    hands.pass_s(60)
    learn(clock, hands, TRUE + timedelta(seconds=60 + jump_s), way_s=0.5)
    assert off_s(clock, TRUE + timedelta(seconds=60.5 + jump_s)) < 0.3


def test_a_good_estimate_grows_old() -> None:
    hands = Hands()
    clock = hands.clock()
    learn(clock, hands, TRUE, way_s=0.001)
    assert clock.error_s() < 0.001
    hands.pass_s(600)
    assert clock.error_s() > 0.05


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b"7", b"{}", b'{"ts": null}', b'{"ts": 5}', b'{"ts": ""}', b'{"ts": "x"}',
        b'{"ts": "2030-01-01T00:00:00"}', b'{"error": {"code": 404}}', b'{"ts": "9999-99-99T00:00:00Z"}',
    ],
)  # fmt: skip
def test_an_answer_without_a_time_says_none(body: bytes) -> None:
    assert time_in(body) is None


async def test_a_broker_without_our_streams_leaves_the_time_to_the_host(empty_broker: NatsServer) -> None:
    nc = await connect(empty_broker.url)
    clock = BrokerClock(host=lambda: 7.0)
    assert not await clock.ask(nc)
    assert clock.time_s() == 7.0
    await nc.close()


async def test_a_host_that_is_off_is_warned_about_once_and_reported_when_right(
    broker: NatsServer,
) -> None:
    nc = await connected(broker)
    off_by_s = 300.0
    clock = BrokerClock(host=lambda: time.time() + off_by_s)
    with structlog.testing.capture_logs() as logged:
        assert await clock.ask(nc)
        assert await clock.ask(nc)
        off_by_s = 0.0
        assert await clock.ask(nc)
    names = [(line["event"], line["log_level"]) for line in logged]
    assert names == [("host_clock_off", "warning"), ("host_clock_right_again", "info")]
    assert logged[0]["ahead_s"] == pytest.approx(300, abs=1)
    await nc.close()


async def test_a_connection_knows_the_brokers_time_from_the_start(broker: NatsServer) -> None:
    nc = await connected(broker)
    clock = BrokerClock(host=lambda: 0.0)
    assert await clock.ask(nc)
    assert abs((clock.now() - datetime.now(UTC)).total_seconds()) < 1
    assert clock.offset_s() < -1e9
    await nc.close()


async def test_the_time_is_asked_again_after_a_reconnection(
    broker: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await (await connected(broker)).close()
    asked = asyncio.Event()
    ask = BrokerClock.ask

    async def noted(self: BrokerClock, nc: Client) -> bool:
        known = await ask(self, nc)
        if known:
            asked.set()
        return known

    monkeypatch.setattr(BrokerClock, "ask", noted)
    async with open_cable(broker.url) as cable:
        nc = await connect(cable.url)
        assert asked.is_set()
        asked.clear()
        cable.cut()
        cable.repair()
        async with asyncio.timeout(DEADLINE_S):
            await asked.wait()
        await nc.close()


async def test_the_time_is_asked_again_and_again(
    empty_broker: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncio.Queue[None]()
    ask = BrokerClock.ask

    async def noted(self: BrokerClock, nc: Client) -> bool:
        asked.put_nowait(None)
        return await ask(self, nc)

    monkeypatch.setattr(BrokerClock, "ask", noted)
    monkeypatch.setattr("switchyard.services.clock.REFRESH_S", 0.01)
    monkeypatch.setattr("switchyard.services.clock.AGAIN_S", 0.01)
    nc = await connect(empty_broker.url)  # without our streams: it has no answer yet
    async with asyncio.timeout(DEADLINE_S):
        for _ in range(3):
            await asked.get()
        await topology.apply(nc)
        for _ in range(3):
            await asked.get()
    await nc.close()


async def test_a_closed_connection_asks_no_more(broker: NatsServer) -> None:
    before = asyncio.all_tasks()
    nc = await connected(broker)
    timekeeping = [task for task in asyncio.all_tasks() - before if task.get_name() == "timekeeping"]
    await nc.close()
    async with asyncio.timeout(DEADLINE_S):
        await asyncio.wait(timekeeping)
    assert len(timekeeping) == 1


async def connect(url: str) -> Client:
    return await broker.connect(url, name="test")


async def connected(server: NatsServer) -> Client:
    """A connection to a broker with our streams."""
    nc = await connect(server.url)
    await topology.apply(nc)
    return nc


def host_clocks(path: Path) -> Iterator[str]:
    """Where a file reads the host's clock."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            name = ".".join(ast.unparse(node).split(".")[-2:])
            if name in HOST_CLOCKS:
                yield f"{path.relative_to(ROOT)}:{node.lineno}: {name}"
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            yield from (f"{path.relative_to(ROOT)}: {alias.name}" for alias in node.names)


def test_only_the_one_clock_reads_the_hosts() -> None:
    owner = ROOT / "services" / "clock.py"
    paths = [
        path
        for package in ("events", "projections", "services", "switchyard")
        for path in (ROOT / package).rglob("*.py")
        if path != owner
    ]
    assert [found for path in paths for found in host_clocks(path)] == []
    assert len(list(host_clocks(owner))) == 1
