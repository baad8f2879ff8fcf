"""The page of rights, followed word by word on one machine, by a user of the command line."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from switchyard.services.broker.server.server import find_binary
from tests.operate.blocks import DOCS, blocks, command
from tests.operate.machine import Machine
from tests.ports import free_port

pytestmark = [pytest.mark.system, pytest.mark.drill, pytest.mark.timeout(300)]

PAGE = (DOCS / "broker-rights.md").read_text()
THERE = "/etc/switchyard"


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    for name in ("etc/nats", "etc/switchyard"):
        (tmp_path / name).mkdir(parents=True)
    yield made
    made.close()


def test_the_page_leads_to_a_worker_with_a_key_of_its_own(machine: Machine) -> None:
    ours, url = machine.directory / "etc", f"nats://127.0.0.1:{free_port()}"
    places = {THERE: str(ours / "switchyard")}
    said = machine.run(command("broker-rights", "--worker gpu2").here(places))

    (config,) = [block.text for block in blocks("broker-rights") if "include" in block.text]
    store = config.replace("/var/lib/nats", str(machine.directory / "js, of its own"))
    store = store.replace("store_dir: ", 'store_dir: "').replace("own }", 'own", max_file_store: 1TB }')
    (ours / "nats" / "nats.conf").write_text(f'listen: "{url.removeprefix("nats://")}"\n{store}')
    machine.start(f"{find_binary()} --config {ours}/nats/nats.conf --log /dev/stdout", "Server is ready")

    machine.run(command("broker-rights", "topology apply").here(places | {"nats://broker:4222": url}))
    keys = ours / "switchyard" / "nats"
    (keys / "worker-gpu1.nk").rename(ours / "switchyard" / "worker-gpu1.nk")  # to where it is used
    start = command("broker-rights", "worker --name").here(places | {"tls://broker:4222": url})
    worker = machine.start(start.replace("SWITCHYARD_NATS", "exec env SWITCHYARD_NATS"), "ready")

    (check,) = re.findall(r"`(switchyard nats-config --out \S+ --check --nats \S+)`", PAGE)
    check = check.replace(THERE, str(ours / "switchyard")).replace("nats://broker:4222", url)
    found = machine.run(check)
    assert found.count("may do all that it must") == 7, found
    assert "worker-gpu1.nk: not here, so not tried" in found

    if (nats := shutil.which("nats")) is not None:
        (line,) = [line for line in said.splitlines() if line.startswith("the nats command: ")]
        (shown,) = [block.text for block in blocks("broker-rights") if block.text.startswith("nats --nkey")]
        assert shown.split()[-2:] == ["stream", "ls"]
        typed = line.partition(": ")[2].replace("nats ", f"{nats} --server {url} ", 1)
        assert "JOBS" in machine.run(f"{typed} stream ls")

    machine.run(f"switchyard nats-config --out {keys} --rotate worker-gpu2 --remove worker-gpu1 --yes")
    assert "`--rotate worker-gpu1`" in PAGE
    assert "`--remove worker-gpu1`" in PAGE
    assert "`nats-server --signal reload`" in PAGE
    broker = machine.running[0]
    subprocess.run([find_binary(), "--signal", f"reload={broker.pid}"], check=True, timeout=60)
    assert machine.stop(worker) is not None
    refused = machine.run(start, code=3)
    assert "uthorization" in refused
