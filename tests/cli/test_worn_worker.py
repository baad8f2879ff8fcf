"""A worker as a process of its own, under handlers that would end it or never end."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from switchyard.client import Client, JobError
from tests.cli.site import READY_S, STOP_S, Site
from tests.cli.test_custom_worker import said, worker

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
HANDLERS = """\
import asyncio, multiprocessing, os, signal, sys, threading, time
from switchyard.handlers import Context, Handlers, SyncContext
handlers = Handlers()

@handlers.kind("deaf")
async def deaf(payload: dict) -> None:
    os.chdir("/")
    os.environ.clear()
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass

@handlers.kind("deaf-thread")
def deaf_thread(payload: dict) -> None:
    time.sleep(3600)

@handlers.kind("pid")
async def pid(payload: dict) -> int:
    return os.getpid()

@handlers.kind("pool")
def pool(payload: dict) -> int:
    with multiprocessing.get_context("fork").Pool(2) as children:
        return children.apply(abs, (-3,))

@handlers.kind("spawn")
def spawn(payload: dict) -> int:
    with multiprocessing.get_context("spawn").Pool(1) as children:
        return children.apply(abs, (-4,))

@handlers.kind("callback")
async def callback(payload: dict) -> str:
    asyncio.get_running_loop().call_soon(sys.exit, 3)
    asyncio.get_running_loop().call_soon(lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    await asyncio.sleep(0.05)
    return "went on"

@handlers.kind("cancels-all")
async def cancels_all(payload: dict) -> int:
    for task in asyncio.all_tasks():
        task.cancel()
    await asyncio.sleep(0)
    return len(asyncio.all_tasks())

@handlers.kind("threads")
def threads(payload: dict) -> str:
    threading.Thread(target=time.sleep, args=(3600,)).start()
    return "began"

@handlers.kind("executor")
async def executor(payload: dict) -> str:
    asyncio.get_running_loop().run_in_executor(None, time.sleep, 3600)
    return "began"

@handlers.kind("ignores-children")
async def ignores_children(payload: dict) -> str:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    return "ignored"

@handlers.kind("leaves", process=True)
def leaves(payload: dict) -> str:
    os.chdir("/")
    return "left"

@handlers.kind("dies")
def dies(payload: dict) -> None:
    os._exit(7)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    running = Site(
        tmp_path_factory.mktemp("place"), forks=False,  # a worker that restarts in its place was started
        PYTHONPATH=path, SWITCHYARD_CANCEL_GRACE_S="1", SWITCHYARD_DRAIN_GRACE_S="1",
    )  # fmt: skip
    (running.directory / "odd.py").write_text(HANDLERS)
    try:
        running.up("--no-worker")
        yield running
    finally:
        running.close()


def result(place: Site, kind: str) -> Any:
    done = place.run("submit", "--kind", kind, "--wait")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def client(place: Site) -> Client:
    return Client(place.connection["url"], place.connection["token"])


def failure(place: Site, kind: str) -> JobError:
    with client(place) as api:
        job = api.submit(kind, max_attempts=1, attempt_timeout_s=0.5)
        ended = api.wait(job.id, timeout_s=READY_S)
    assert ended.error is not None
    return ended.error


@pytest.mark.parametrize("kind", ["deaf", "deaf-thread"])
def test_a_worker_whose_handler_does_not_end_restarts_in_its_place(place: Site, kind: str) -> None:
    with worker(place, "--handlers", "odd:handlers") as process:
        (before,) = place.json("workers")["workers"]
        assert result(place, "pid") == process.pid
        error = failure(place, kind)
        assert error.code == "timeout"
        assert "still runs" in error.message
        said(process, "slot_lost")
        said(process, "restarts")
        said(process, "ready")
        assert result(place, "pid") == process.pid
        (after,) = place.json("workers")["workers"]
        assert after["id"] != before["id"]
        assert after["lost_slots"] == 0
        assert Path(psutil.Process(process.pid).cwd()) == place.directory


def test_a_worker_goes_on_whatever_handlers_do_to_its_loop_and_signals(place: Site) -> None:
    with worker(place, "--handlers", "odd:handlers") as process:
        assert result(place, "pool") == 3
        assert result(place, "spawn") == 4
        assert result(place, "callback") == "went on"
        assert result(place, "cancels-all") == 0
        assert result(place, "pid") == process.pid


def test_a_worker_hears_of_the_end_of_processes_whatever_handlers_do_to_sigchld(place: Site) -> None:
    with worker(place, "--handlers", "odd:handlers"):
        for _ in range(2):
            assert result(place, "leaves") == "left"  # its process is replaced, and seen to end before
            assert result(place, "ignores-children") == "ignored"
        assert result(place, "leaves") == "left"


@pytest.mark.parametrize("kind", ["threads", "executor"])
def test_threads_that_stay_do_not_keep_a_worker_that_is_asked_to_end(place: Site, kind: str) -> None:
    with worker(place, "--handlers", "odd:handlers") as process:
        assert result(place, kind) == "began"
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_S) == 0


def test_a_handler_that_ends_the_process_costs_its_own_worker_alone(place: Site) -> None:
    with worker(place, "--handlers", "odd:handlers", "--name", "first") as first:
        with client(place) as api:
            job = api.submit("dies", max_attempts=1)
        assert first.wait(STOP_S) == 7
        place.run("cancel", job.id)  # a first loss may have been the worker's own: it would come again
        with worker(place, "--handlers", "odd:handlers", "--name", "second") as second:
            assert result(place, "pid") == second.pid
