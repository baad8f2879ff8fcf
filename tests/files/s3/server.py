"""moto's server of S3, as a process, and what is in a bucket of it."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

from switchyard.services.files.s3 import S3
from switchyard.services.ids import new_id
from switchyard.services.settings import MIB, Settings
from tests.ports import free_port

KEY: Final = "AKIATESTTESTTEST"
SECRET: Final = "a-secret-of-the-tests-alone"
START_S: Final = 60.0


@contextlib.contextmanager
def moto() -> Iterator[str]:
    """A server that nobody else uses; its URL."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _wait(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            assert process.poll() is None, "moto ended"
            assert time.monotonic() < deadline, "moto does not listen"
            time.sleep(0.05)
        else:
            return


def s3_settings(endpoint: str, **other: Any) -> Settings:
    """Those of a new bucket at a server."""
    values = {
        "s3_bucket": f"b-{new_id()}", "s3_endpoint": endpoint, "s3_access_key_id": KEY,
        "s3_secret_access_key": SECRET, "s3_part_bytes": 5 * MIB,
    }  # fmt: skip
    return Settings.model_validate({**values, **other})


async def make_bucket(s3: S3) -> None:
    await (await s3.client()).create_bucket(Bucket=s3.bucket)


async def keys_in(s3: S3) -> list[str]:
    """The keys of all objects."""
    page = await (await s3.client()).list_objects_v2(Bucket=s3.bucket)
    return [found["Key"] for found in page.get("Contents", [])]


async def uploads_in(s3: S3) -> list[str]:
    """The keys of all uploads that are not complete."""
    page = await (await s3.client()).list_multipart_uploads(Bucket=s3.bucket)
    return [found["Key"] for found in page.get("Uploads", [])]
