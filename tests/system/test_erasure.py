"""After an erasure no byte of a document, its text or its name is found on any disk, nor its key."""

from __future__ import annotations

import asyncio
import base64
import secrets
import shutil
from pathlib import Path
from typing import Any

import pytest

from switchyard.services.broker import connection
from switchyard.services.broker.bucket import Bucket
from switchyard.services.files.erasures import ERASURES
from switchyard.services.files.keys import KEYS
from tests.system.deployment import Deployment

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

DONE_S = 60.0
LINES = 8000


class Drill:
    """A deployment, and what is looked for on its disk."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.marker = f"m{secrets.token_hex(12)}"

    async def call(self, method: str, path: str, expected: int = 200, **options: Any) -> Any:
        status, body = await self.deployment.request(method, path, **options)
        assert status == expected, (path, status, body)
        return body

    async def bytes_of(self, file_id: str, **headers: str) -> bytes:
        headers = {"Authorization": f"Bearer {self.deployment.token}", **headers}
        url = f"{self.deployment.url}/v1/files/{file_id}"
        async with self.deployment.session.get(url, headers=headers) as answer:
            assert answer.status in (200, 206)
            return await answer.read()

    async def ended(self, job_id: str) -> dict[str, Any]:
        job: dict[str, Any] = await self.call("GET", f"/v1/jobs/{job_id}?wait=60")
        assert job["state"] == "succeeded", job["error"]
        return job

    async def kept(self) -> str:
        """An upload that can be erased and is not: the block of the broker's store that has its key stays."""
        upload = await self.call("POST", "/v1/files?name=kept&erasable=true", 201, data=b"kept")
        return str(upload["id"])

    async def converted(self) -> tuple[str, dict[str, Any]]:
        """The upload and the job of a document that a worker on NATS has converted."""
        lines = "".join(f"<p>{self.marker} line {number}</p>\n" for number in range(LINES))
        content = f"<html><body>{lines}</body></html>".encode()
        upload = await self.call(
            "POST", f"/v1/files?name={self.marker}.html&erasable=true", 201, data=content,
            headers={"Content-Type": f"text/html; title={self.marker}"},
        )  # fmt: skip
        assert upload["name"] == f"{self.marker}.html"
        assert await self.bytes_of(upload["id"]) == content
        assert await self.bytes_of(upload["id"], Range="bytes=131000-132000") == content[131000:132001]
        async with asyncio.timeout(DONE_S):
            while not (listed := (await self.call("GET", "/v1/files"))["files"]):
                await asyncio.sleep(0.1)
        assert {file["name"] for file in listed} <= {"kept", f"{self.marker}.html"}
        job_id = await self.deployment.submit(kind="convert", payload={"file": upload["id"]}, erasable=True)
        job = await self.ended(job_id)
        assert job["result"] is None
        texts = [await self.bytes_of(artifact["file"]) for artifact in job["artifacts"]]
        assert any(self.marker.encode() in text for text in texts)
        return upload["id"], job

    async def done_by_hand(self) -> dict[str, Any]:
        """A job that a worker over REST has failed at first, with all that it may say."""
        job_id = await self.deployment.submit(
            kind="by-hand", payload={"text": self.marker}, erasable=True, retry={"base_s": 0, "jitter": 0}
        )
        for verb, body in (
            ("fail", {"error": {"code": "no_use", "message": self.marker, "retryable": True}}),
            ("succeed", {"result": {"text": self.marker}, "artifacts": [f"{self.marker}.txt"]}),
        ):
            asked = {"worker": "hand", "kinds": ["by-hand"], "lease_s": 60, "wait_s": 30}
            claimed = await self.call("POST", "/v1/leases", 201, json=asked)
            assert claimed["job"]["payload"] == {"text": self.marker}
            lease = claimed["lease"]
            headers = {"Switchyard-Lease-Token": lease["token"]}
            where = f"/v1/leases/{lease['id']}"
            said = {"fraction": 0.5, "stage": self.marker, "message": self.marker}
            stored = await self.deployment.request(
                "POST", f"{where}/artifacts?name={self.marker}.txt", data=self.marker.encode(),
                headers={**headers, "Content-Type": f"text/plain; title={self.marker}"},
            )  # fmt: skip
            assert stored[0] == 201, stored
            for path, report in (("progress", said), ("logs", {"lines": [self.marker]}), (verb, body)):
                status, answer = await self.deployment.request(
                    "POST", f"{where}/{path}", json=report, headers=headers
                )
                assert status in (200, 202, 204), (path, status, answer)
        job = await self.ended(job_id)
        named, result = job.pop("artifacts")
        assert (named["name"], named["type"]) == (f"{self.marker}.txt", f"text/plain; title={self.marker}")
        assert self.marker not in str((job, named["file"], result))
        return {**job, "artifacts": [named, result]}

    async def keys(self, but: list[str]) -> dict[str, bytes]:
        """The keys that the broker has, by upload, but for those of some files."""
        nc = await connection.connect(self.deployment.broker.url, name="drill")
        try:
            entries = await Bucket(nc, KEYS, timeout_s=20).load()
        finally:
            await nc.close()
        found = [(entry.key, entry.value) for entry in entries if entry.value is not None]
        assert set(but) <= {value.file for _, value in found}
        return {key[-1]: value.key for key, value in found if value.file not in but}

    async def certificates(self) -> dict[str, Any]:
        nc = await connection.connect(self.deployment.broker.url, name="drill")
        try:
            entries = await Bucket(nc, ERASURES, timeout_s=20).load()
        finally:
            await nc.close()
        return {entry.key[-1]: entry.value for entry in entries}

    def found(self, words: list[bytes]) -> list[tuple[Path, bytes]]:
        """Which words stand in which files of the whole deployment, logs among them."""
        paths = [path for path in self.deployment.directory.rglob("*") if path.is_file()]
        assert paths
        return [(path, word) for path in paths for word in words if word in path.read_bytes()]

    async def down(self) -> None:
        await self.deployment.parts["up"].stop()
        await self.deployment.broker.stop()

    async def up(self) -> None:
        await self.deployment.broker.start()
        await self.deployment.start_up()


async def test_nothing_of_an_erased_job_is_found_on_disk_nor_after_a_restore(tmp_path: Path) -> None:
    async with Deployment(tmp_path / "site") as deployment:
        drill = Drill(deployment)
        await deployment.start_up()
        stay = [await drill.kept()]
        upload, converted = await drill.converted()
        by_hand = await drill.done_by_hand()
        stay.append(await drill.kept())
        keys = await drill.keys(but=stay)
        words = [drill.marker.encode(), *(base64.b64encode(key) for key in keys.values()), *keys.values()]
        assert len(keys) >= 5
        await drill.down()
        assert {word for _, word in drill.found(words)} == {base64.b64encode(key) for key in keys.values()}
        backup = tmp_path / "backup"
        shutil.copytree(deployment.directory / "broker", backup)
        await drill.up()

        for job in (converted, by_hand):
            erased = await drill.call("DELETE", f"/v1/jobs/{job['id']}?erase=true")
            assert erased["state"] == "archived"
            again = await drill.call("DELETE", f"/v1/jobs/{job['id']}?erase=true")
            assert again["seq"] == erased["seq"]
        for file_id in (upload, *(one["file"] for one in converted["artifacts"])):
            await drill.call("GET", f"/v1/files/{file_id}", 404)
        listed = (await drill.call("GET", "/v1/files"))["files"]
        assert {file["name"] for file in listed} == {"kept"}
        assert not await drill.keys(but=stay)
        certificates = await drill.certificates()
        assert set(certificates) == {converted["id"], by_hand["id"]}
        assert all(one.erased_at is not None and one.keys for one in certificates.values())
        await drill.down()
        assert not drill.found(words)

        shutil.rmtree(deployment.directory / "broker")
        shutil.copytree(backup, deployment.directory / "broker")
        await drill.up()
        async with asyncio.timeout(DONE_S):
            while await drill.keys(but=stay):
                await asyncio.sleep(0.1)
        assert set(await drill.certificates()) == set(certificates)
        await drill.call("GET", f"/v1/files/{upload}", 404)
        assert [await drill.bytes_of(file_id) for file_id in stay] == [b"kept", b"kept"]
        await drill.down()
        assert not drill.found(words)
        await drill.deployment.broker.start()
