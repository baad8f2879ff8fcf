"""A broker of one's own as its page configures it, and workers that come to it as the page of work says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from switchyard.services.broker.topology_spec import load
from tests.operate.blocks import DOCS, command, file
from tests.operate.machine import Machine
from tests.operate.tls import Terminator
from tests.ports import free_port
from tests.switchyard.test_vigil_child import certificate

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

TLS = "tls://switchyard:$NATS_PASSWORD@broker.example:4222"


class Far:
    """Broker, Switchyard and gateway of one machine; workers come from another."""

    def __init__(self, directory: Path) -> None:
        self.trusted = certificate(directory / "broker.pem")
        self.nats, self.websocket, self.monitor, self.port = (free_port() for _ in range(4))
        self.home = Machine(
            directory / "home", NATS_PASSWORD="0123456789abcdef", SSL_CERT_FILE=str(self.trusted)
        )
        self.home.environment["SWITCHYARD_PORT"] = str(self.port)
        text = file("own-broker", "nats.conf").here(
            {
                "0.0.0.0:4222": f"127.0.0.1:{self.nats}",
                "0.0.0.0:8443": f"127.0.0.1:{self.websocket}",
                "127.0.0.1:8222": f"127.0.0.1:{self.monitor}",
                "/var/lib/nats": str(directory / "nats"),
                "/etc/nats/broker.pem": str(self.trusted),
                "/etc/nats/broker.key": str(self.trusted),
            }
        )
        self.configuration = self.home.directory / "nats.conf"
        self.configuration.write_text(text)
        self.far = Machine(
            directory / "far", NATS_PASSWORD="0123456789abcdef", SSL_CERT_FILE=str(self.trusted)
        )
        self.far.program("../worker/bin/switchyard", "-m switchyard.services.cli")

    def start_broker(self) -> None:
        (starts,) = [
            line for line in command("own-broker", "nats-server").text.splitlines() if "nats-server" in line
        ]
        process = self.home.start(f"{starts} --log /dev/stdout", "Server is ready")
        assert process.poll() is None

    def lay_out(self, code: int = 0) -> str:
        text = command("own-broker", "topology apply").here({TLS: self.tls})
        return self.home.run(text, code=code)

    @property
    def tls(self) -> str:
        return f"tls://switchyard:$NATS_PASSWORD@127.0.0.1:{self.nats}"

    def close(self) -> None:
        self.far.close()
        self.home.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Far]:
    far = Far(tmp_path)
    yield far
    far.close()


def test_workers_come_by_tls_by_a_websocket_and_by_rest_as_their_page_says(place: Far) -> None:
    place.start_broker()
    place.lay_out()
    place.home.environment["SWITCHYARD_NATS_URL"] = place.tls.replace(
        "$NATS_PASSWORD", place.home.environment["NATS_PASSWORD"]
    )
    place.home.start(f"{command('own-broker', 'switchyard up').text.strip()} --no-worker", "ready")
    submit = command("work", "from far away").text
    with Terminator(place.port, place.trusted) as gateway:
        ways = {
            "tls://": {TLS: place.tls},
            "wss://": {"broker.example:8443": f"127.0.0.1:{place.websocket}"},
            "--rest": {"https://jobs.example": gateway.url},
        }
        make = command("work", "keys create").text.strip()
        key = json.loads(place.home.run(f"{make} --json"))["key"]
        (place.far.directory / "far-machine.key").write_text(key)
        (place.far.directory / "far-machine.key").chmod(0o600)
        for way, places in ways.items():
            worker = place.far.start(command("work", way).here(places), "")
            said = place.home.run(submit)
            assert json.loads(said)["echo"] == "from far away", way
            assert place.far.stop(worker) == 0, way
        assert gateway.connections > 0


def test_a_broker_that_may_hold_too_little_is_refused_with_what_to_change(place: Far) -> None:
    text = place.configuration.read_text()
    assert "max_file_store: 100GB" in text
    place.configuration.write_text(text.replace("max_file_store: 100GB", "max_file_store: 20GB"))
    place.start_broker()
    said = place.lay_out(code=1)
    assert "max_file_store" in said
    assert "reserve" in said


@pytest.mark.parametrize("page", ["own-broker", "sizing"])
def test_the_pages_say_how_much_the_streams_reserve(page: str) -> None:
    (said,) = re.findall(
        r"([\d.]+) GiB (?:on each broker|with the settings as they are; it)",
        (DOCS / f"{page}.md").read_text(),
    )
    assert 0 <= float(said) - load(replicas=1).reserved_bytes / 2**30 < 0.1


def test_the_broker_of_the_page_may_hold_every_stream() -> None:
    (allowed,) = re.findall(r"max_file_store: (\d+)GB", file("own-broker", "nats.conf").text)
    assert int(allowed) * 10**9 >= load(replicas=3).reserved_bytes
