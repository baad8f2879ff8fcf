"""What the page is made of, and how it is served."""

from __future__ import annotations

import hashlib
import json
import re
from importlib import resources
from pathlib import Path

import pytest

from switchyard.services.gateway import monitor
from switchyard.services.gateway.monitor.files import load
from tests.broker.shared import SharedBroker
from tests.gateway.rest import Answer, Gateway, gateway

pytestmark = pytest.mark.shared_gateway

HTML = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
FILES = load()
OURS = sorted(
    {name for name in FILES.files if name.endswith((".mjs", ".css", ".svg"))}
    - {one["file"] for one in json.loads((resources.files(monitor) / "vendored.json").read_text())}
)


async def read(api: Gateway, path: str, **headers: str) -> Answer:
    """An answer to somebody without a token."""
    async with api.http.get(api.url + path, headers=headers) as answer:
        return Answer(answer.status, answer.headers, await answer.read())


async def test_browsers_get_the_page_and_programs_what_older_systems_said(api: Gateway) -> None:
    page = await read(api, "/", **HTML)
    assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "Accept" in page.headers["Vary"]
    for accepted in ({}, {"Accept": "*/*"}, {"Accept": "application/json"}, {"Accept": "text/htmlish"}):
        assert (await read(api, "/", **accepted)).raw == b"OK!"
    again = await read(api, "/", **HTML, **{"If-None-Match": page.headers["ETag"]})
    assert (again.status, again.raw) == (304, b"")


async def test_the_page_runs_nothing_but_its_own_files_and_is_framed_by_nobody(api: Gateway) -> None:
    page = await read(api, "/", **HTML)
    policy = dict(part.strip().split(" ", 1) for part in page.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert "unsafe" not in page.headers["Content-Security-Policy"]
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert page.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert not re.search(rb"<script(?![^>]*\ssrc=)|<style|\son\w+=|\sstyle=|javascript:", page.raw)
    assert b"://" not in page.raw


async def test_files_may_be_kept_for_ever_by_their_version(api: Gateway) -> None:
    page = (await read(api, "/", **HTML)).raw.decode()
    named = re.findall(r'(?:href|src)="(monitor/[^"]+)"', page)
    first = [path for path in named if f'rel="modulepreload" href="{path}"' not in page]
    assert len(first) == 4
    scripts = {name for name in FILES.files if name.endswith(".mjs")}
    later = set(
        re.findall(r'import\("\./([^"]+)"\)', "".join(FILES.files[name][1].decode() for name in OURS))
    )
    assert {path.rpartition("/")[2] for path in named if path.endswith(".mjs")} == scripts - later
    for path in {*named}:
        answer = await read(api, f"/{path}")
        assert answer.status == 200
        assert "immutable" in answer.headers["Cache-Control"]
        known = await read(api, f"/{path}", **{"If-None-Match": answer.headers["ETag"]})
        assert known.status == 304


@pytest.mark.parametrize(
    "path",
    [
        f"/monitor/{FILES.version}/none.mjs", f"/monitor/{FILES.version}/page.html",
        f"/monitor/{FILES.version}/%2e%2e%2ffiles.py", f"/monitor/{'0' * 16}/app.mjs",
        f"/monitor/{FILES.version}/..%2Fserving.py", "/monitor", "/monitor/",
    ],
)  # fmt: skip
async def test_there_is_nothing_else(api: Gateway, path: str) -> None:
    assert (await read(api, path)).status in (401, 404)


async def test_a_gateway_may_be_without_the_page(shared_broker: SharedBroker, tmp_path: Path) -> None:
    async with gateway(shared_broker.url, tmp_path, monitor=False) as api:
        assert (await read(api, "/", **HTML)).raw == b"OK!"
        assert (await read(api, f"/monitor/{FILES.version}/app.mjs")).status == 404


@pytest.mark.parametrize("name", OURS)
def test_our_files_import_what_is_there_and_make_no_markup_of_text(name: str) -> None:
    text = FILES.files[name][1].decode()
    for found in re.findall(r'(?:from|import\()\s*"([^"]+)"', text):
        assert found.startswith("./"), found
        assert found[2:] in FILES.files, found
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|dangerously", text
    )
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)


def test_modules_of_others_are_those_that_are_named_with_version_and_licence() -> None:
    room = resources.files(monitor)
    licences = (room / "licences.txt").read_text()
    for one in json.loads((room / "vendored.json").read_text()):
        body = FILES.files[one["file"]][1]
        assert hashlib.sha256(body).hexdigest() == one["sha256"], one["file"]
        assert one["package"] in licences
        assert one["licence"] in ("MIT", "Apache-2.0")
