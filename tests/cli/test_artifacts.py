"""What a job has left, as a person types it."""

from __future__ import annotations

import urllib.request
import zipfile
from typing import Any

import pytest

from tests.cli.site import Site
from tests.cli.test_review import post
from tests.images import png

pytestmark = pytest.mark.system


def stored(site: Site, lease: dict[str, Any], name: str, data: bytes) -> None:
    request = urllib.request.Request(
        f"{site.connection['url']}/v1/leases/{lease['id']}/artifacts?name={name}", data,
        {
            "Authorization": f"Bearer {site.connection['token']}", "Content-Type": "image/png",
            "Switchyard-Lease-Token": lease["token"],
        },
    )  # fmt: skip
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 201


def test_artifacts_are_listed_and_downloaded(site: Site) -> None:
    job_id = post(site, "/v1/jobs", {"kind": "draw"})["id"]
    lease = post(site, "/v1/leases", {"worker": "w", "kinds": ["draw"], "wait_s": 20})["lease"]
    files = {"a.png": png(), "A.png": b"other", ".hidden": b"h"}
    for name, data in files.items():
        stored(site, lease, name, data)
    token = {"Switchyard-Lease-Token": lease["token"]}
    post(site, f"/v1/leases/{lease['id']}/succeed", {"artifacts": list(files)}, **token)
    assert [one["width"] for one in site.json("artifacts", job_id)["artifacts"]] == [2, None, None]
    assert "a.png" in site.run("artifacts", job_id).stdout
    done = site.run("artifacts", job_id, "--to", "out/deep", "--zip", "all.zip")
    assert done.returncode == 0, done.stderr
    directory = site.directory / "out" / "deep"
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == {
        "a.png": png(), "A (2).png": b"other", "_hidden": b"h",
    }  # fmt: skip
    with zipfile.ZipFile(site.directory / "all.zip") as archive:
        assert len(archive.namelist()) == len(files)
    assert site.run("artifacts", "nowhere").returncode == 5
    waiting = post(site, "/v1/jobs", {"kind": "draw"})["id"]
    assert site.run("artifacts", waiting, "--zip", "none.zip").returncode == 6
    assert not (site.directory / "none.zip").exists()


def test_a_file_is_uploaded_and_gone_on_with_by_its_url(site: Site) -> None:
    source = site.directory / "scan.pdf"
    source.write_bytes(b"one and two")
    done = site.run("upload", "scan.pdf", "--type", "application/pdf", "--ttl-s", "60")
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == f"{site.connection['url']}/v1/uploads/{done.stdout.strip()}"
    said = site.json("upload", "scan.pdf", "--resume", done.stderr.strip())  # it is whole
    assert (said["file"], said["size_bytes"]) == (done.stdout.strip(), len(source.read_bytes()))
    assert site.run("upload", "scan.pdf", "--resume", "nothing").returncode == 5
    assert site.run("upload", "scan.pdf", "--resume", "x", "--erasable").returncode == 2
    source.write_bytes(b"two and one")
    wrong = site.run("upload", "scan.pdf", "--resume", done.stderr.strip())
    assert (wrong.returncode, "has other bytes" in wrong.stderr) == (1, True), wrong
