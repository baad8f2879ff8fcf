"""`switchyard import ilios`: what an Ilios has converted is there under its ids, once."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner

from switchyard.services.cli.importing.ilios import ilios
from switchyard.services.files.s3 import S3
from switchyard.services.ids import id_for_key
from tests import forked
from tests.files.s3.server import KEY, SECRET, make_bucket, moto, s3_settings
from tests.gateway.ilios.site import House

TABLES: Final = """
CREATE TABLE documents (id text PRIMARY KEY NOT NULL, file_name text NOT NULL, mime_type text NOT NULL,
  file_size integer NOT NULL, s3_key text NOT NULL, content text, metadata text,
  status text DEFAULT 'pending' NOT NULL, error text, created_at integer DEFAULT (unixepoch()) NOT NULL,
  processed_at integer, archived_at integer, retention_days integer DEFAULT 365 NOT NULL, user_id text,
  api_key text, batch_id text);
CREATE TABLE usage (id text PRIMARY KEY NOT NULL, document_id text NOT NULL, operation text NOT NULL,
  base_cost_cents integer NOT NULL, total_cost_cents integer NOT NULL);
CREATE TABLE batches (id text PRIMARY KEY NOT NULL, total_documents integer NOT NULL);
"""
SHORT, LONG, OLD, BAD, WAITS = ("tz4a98xxat96iws9zmbrgj3" + letter for letter in "abcde")
LOST: Final = "tz4a98xxat96iws9zmbrgj3f"
TEXT: Final = "# One\n\n---\n\ntwo"
LARGE: Final = "word " * 40_000
PDF: Final = b"%PDF-1.7 of an Ilios"
NOW: Final = int(time.time())
DAY_S: Final = 86400
COMMAND_S: Final = 120.0


def rows() -> list[tuple[Any, ...]]:
    pages = json.dumps({"extractedPages": 2, "model": "mistral-ocr-latest"})
    pdf = "application/pdf"
    return [
        (SHORT, "my report.pdf", pdf, "documents/1.pdf", TEXT, pages, "completed", NOW - 5 * DAY_S, 30),
        (LONG, "../odd\n.pdf", "no type", "documents/2.pdf", LARGE, "no JSON", "completed", NOW, 365),
        (OLD, "old.pdf", pdf, "documents/1.pdf", TEXT, None, "completed", NOW - 40 * DAY_S, 30),
        ("No Id\x1b", "bad.pdf", pdf, "documents/1.pdf", TEXT, None, "completed", NOW, 30),
        (BAD, "bad.pdf", pdf, "documents/1.pdf", None, None, "completed", NOW, 30),
        (LOST, "lost.pdf", pdf, "documents/none.pdf", TEXT, None, "completed", NOW, 30),
        (WAITS, "later.pdf", pdf, "documents/1.pdf", None, None, "pending", NOW, 30),
    ]  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "ilios.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(TABLES)
        connection.executemany(
            "INSERT INTO documents (id, file_name, mime_type, file_size, s3_key, content, metadata, status, "
            "created_at, retention_days) VALUES (?, ?, ?, 20, ?, ?, ?, ?, ?, ?)",
            rows(),
        )
        connection.execute("INSERT INTO usage VALUES ('u', ?, 'convert', 1, 2)", (SHORT,))
    connection.close()
    return path


@pytest.fixture
def originals(tmp_path: Path) -> Path:
    (tmp_path / "bucket" / "documents").mkdir(parents=True)
    for name in ("1.pdf", "2.pdf"):
        (tmp_path / "bucket" / "documents" / name).write_bytes(PDF)
    return tmp_path / "bucket"


def environment(here: House, **more: str) -> dict[str, str]:
    return {"SWITCHYARD_URL": here.api.url, "SWITCHYARD_TOKEN": here.api.token("admin"), **more}


async def run(here: House, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """The command as a person types it."""
    asked = ("import", "ilios", "--tenant", here.api.tenant, *arguments)
    given = os.environ | environment(here, **more)
    return await asyncio.to_thread(forked.run, asked, Path.cwd(), given, COMMAND_S)


async def summary(here: House, *arguments: str, **more: str) -> Any:
    done = await run(here, "--json", *arguments, **more)
    assert done.returncode == 1, done.stderr  # some were refused
    return json.loads(done.stdout)


async def test_documents_come_over_once_with_text_file_and_time(
    here: House, file: Path, originals: Path
) -> None:
    first = await summary(here, str(file), "--originals", str(originals))
    assert first["counts"] == {"made": 2, "there": 0, "expired": 1, "refused": 3}
    assert {one["id"] for one in first["refused"]} == {"No Id\\x1b", BAD, LOST}
    assert first["left"]["rows"] == {"documents pending": 1, "usage": 1}
    client = here.client()
    found = await client.status(SHORT)
    assert (found["id"], found["status"], found["fileName"]) == (SHORT, "completed", "my report.pdf")
    assert (await client.get(found["downloadUrl"])).text.rstrip() == TEXT
    whole = (await client.get(f"/api/documents/{SHORT}?format=json")).json
    assert (whole["metadata"]["extractedPages"], whole["metadata"]["engine"]) == (2, "ilios")
    sent = await client.get(f"/api/documents/{SHORT}/original")
    assert (await client.get(sent.headers["Location"])).raw == PDF
    assert (await client.get(f"/api/documents/{LONG}")).text.strip() == LARGE.strip()
    job_id = id_for_key(here.api.tenant, f"ilios.import.{SHORT}")
    job = (await here.api.get(f"/v1/jobs/{job_id}")).json
    assert (job["kind"], job["labels"]["ilios-days"]) == ("ilios-import", "30")
    for other in (OLD, BAD, LOST, WAITS):
        assert (await client.get(f"/api/documents/status/{other}")).status == 404
    again = await summary(here, str(file), "--originals", str(originals))
    assert again["counts"] == {"made": 0, "there": 2, "expired": 1, "refused": 3}
    stranger = await here.api.get(
        f"/api/documents/{SHORT}", token=here.api.token("admin", tenant=here.api.stranger)
    )
    assert stranger.status == 404
    # It costs nothing here, and is erased as any other.
    assert (await client.get("/api/usage/summary")).json["summary"]["totalOperations"] == 0
    assert (await here.api.call("DELETE", f"/v1/jobs/{job_id}?erase=true")).status in (200, 204)
    for path in (SHORT, f"{SHORT}/original"):
        assert (await client.get(f"/api/documents/{path}")).status == 410
    assert (await client.get(sent.headers["Location"])).status == 404
    last = await summary(here, str(file), "--originals", str(originals))
    assert last["counts"]["there"] == 2  # what was erased does not come back


async def test_a_run_that_was_broken_off_is_ended_by_the_next(
    here: House, file: Path, originals: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dies(_: Any) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr("switchyard.services.cli.importing.ilios.Run._end", dies)
        asked = ["--tenant", here.api.tenant, str(file), "--originals", str(originals)]
        done = await asyncio.to_thread(CliRunner().invoke, ilios, asked, env=environment(here))
        assert isinstance(done.exception, RuntimeError), done.exception
    assert (await here.client().status(SHORT))["status"] == "pending"
    found = await summary(here, str(file), "--originals", str(originals))
    assert found["counts"]["made"] == 2
    assert (await here.client().get(f"/api/documents/{SHORT}")).text.rstrip() == TEXT


async def test_files_come_from_the_bucket(here: House, file: Path) -> None:
    with moto() as url:
        bucket = S3(s3_settings(url))
        await make_bucket(bucket)
        client = await bucket.client()
        await client.put_object(Bucket=bucket.bucket, Key="documents/1.pdf", Body=PDF)
        await bucket.aclose()
        of_ilios = {
            "S3_BUCKET": bucket.bucket, "AWS_ENDPOINT_URL_S3": url, "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
        }  # fmt: skip
        found = await summary(here, str(file), **of_ilios)
    assert found["counts"] == {"made": 1, "there": 0, "expired": 1, "refused": 4}
    assert any("is not in the bucket" in one["reason"] for one in found["refused"])
    sent = await here.client().get(f"/api/documents/{SHORT}/original")
    assert (await here.client().get(sent.headers["Location"])).raw == PDF


async def test_dry_run_sends_nothing_and_texts_come_alone(here: House, file: Path) -> None:
    looked = await summary(here, str(file), "--dry-run")
    assert looked["counts"] == {"made": 3, "there": 0, "expired": 1, "refused": 2}
    assert (await here.api.get("/v1/jobs")).json["jobs"] == []
    needs = await run(here, str(file))
    assert (needs.returncode, "S3_BUCKET" in needs.stderr) == (2, True)
    found = await summary(here, str(file), "--without-originals")
    assert found["counts"]["made"] == 3
    assert (await here.client().get(f"/api/documents/{LOST}")).text.rstrip() == TEXT
    assert (await here.client().get(f"/api/documents/{LOST}/original")).status == 410


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\0 cut", b"CREATE TABLE documents (id);"])
async def test_another_file_is_refused(here: House, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd"
    path.write_bytes(content)
    done = await run(here, str(path), "--without-originals")
    assert done.returncode not in (0, None)
    assert "Traceback" not in done.stderr


async def test_a_key_of_the_bucket_leads_nowhere_else(here: House, file: Path, originals: Path) -> None:
    (originals.parent / "outside").write_bytes(b"not of the bucket")
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE documents SET s3_key = '../outside' WHERE id = ?", (SHORT,))
    connection.close()
    found = await summary(here, str(file), "--originals", str(originals))
    reason = "its file '../outside' is not in the copy of the bucket"
    assert {"id": SHORT, "reason": reason} in found["refused"]
