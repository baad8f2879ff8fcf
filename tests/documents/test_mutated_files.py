"""Good files with random damage: each is read or refused with a reason, and the worker continues."""

from __future__ import annotations

import random
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from switchyard.services.connectors.convert.connector import ConvertConnector
from tests.connectors.attempts import workers
from tests.documents.corpus import DOCUMENTS
from tests.documents.hostile import MIB, convert, mutations, verdict, zipped


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def connector() -> AsyncIterator[ConvertConnector]:
    connector = ConvertConnector(slots=1, timeout_s=60, memory_bytes=512 * MIB)
    yield connector
    await connector.close()


pytestmark = pytest.mark.asyncio(loop_scope="module")
FILES = [
    "invoice.pdf",
    "phototest.tif",
    "phototest-rotated-180.png",
    "docx_lists.docx",
    "pptx_chart.pptx",
    "xlsx_09_section_label_header.xlsx",
    "example_03.html",
]
OFFICE = {
    "docx_lists.docx": [
        "word/document.xml",
        "word/styles.xml",
        "word/numbering.xml",
        "word/_rels/document.xml.rels",
    ],
    "pptx_chart.pptx": ["ppt/slides/slide1.xml", "ppt/charts/chart1.xml", "ppt/_rels/presentation.xml.rels"],
    "xlsx_01.xlsx": [
        "xl/worksheets/sheet2.xml",
        "xl/drawings/drawing1.xml",
        "xl/workbook.xml",
        "xl/styles.xml",
    ],
}


@pytest.mark.parametrize("name", FILES)
async def test_file_with_damaged_bytes_is_read_or_refused(
    connector: ConvertConnector, tmp_path: Path, name: str
) -> None:
    good = (DOCUMENTS / name).read_bytes()
    for data in mutations(good, random.Random(name), 24):  # the same damage every time
        await verdict(connector, tmp_path, data, name)
    assert (await convert(connector, tmp_path, good, name)).result["pages"] >= 1
    assert len(workers()) <= 1


@pytest.mark.parametrize("name", OFFICE)
async def test_office_document_with_a_damaged_part_is_read_or_refused(
    connector: ConvertConnector, tmp_path: Path, name: str
) -> None:
    with zipfile.ZipFile(DOCUMENTS / name) as archive:
        parts = {part: archive.read(part) for part in archive.namelist()}
    for part in OFFICE[name]:
        for data in mutations(parts[part], random.Random(part), 8):
            await verdict(connector, tmp_path, zipped(parts | {part: data}), name)


@pytest.mark.parametrize("name", FILES)
async def test_file_cut_off_anywhere_is_read_or_refused(
    connector: ConvertConnector, tmp_path: Path, name: str
) -> None:
    good = (DOCUMENTS / name).read_bytes()
    for share in (0.001, 0.05, 0.25, 0.5, 0.75, 0.99):
        await verdict(connector, tmp_path, good[: max(1, int(len(good) * share))], name)


@pytest.mark.parametrize("name", FILES)
async def test_file_with_any_name_is_taken_for_what_it_is(
    connector: ConvertConnector, tmp_path: Path, name: str
) -> None:
    own = Path(name).suffix
    for other in {".pdf", ".tif", ".png", ".docx", ".pptx", ".xlsx", ".html"} - {own}:
        code = await verdict(connector, tmp_path, (DOCUMENTS / name).read_bytes(), f"file{other}")
        assert code == (None if {own, other} <= {".tif", ".png"} else "mislabelled_file")


@pytest.mark.parametrize("suffix", [".pdf", ".tif", ".png", ".jpg", ".docx", ".pptx", ".xlsx", ".html", ""])
async def test_noise_is_refused_under_any_name(
    connector: ConvertConnector, tmp_path: Path, suffix: str
) -> None:
    chance = random.Random(suffix)
    starts = [
        b"",
        b"%PDF-1.7\n",
        b"PK\x03\x04",
        b"\x89PNG\r\n\x1a\n",
        b"II*\0",
        b"\xff\xd8\xff",
        b"<html>",
        bytes(9),
    ]
    for start in starts:
        noise = start + chance.randbytes(3_000)
        code = await verdict(connector, tmp_path, noise, f"file{suffix}")
        assert code is not None or start == b"<html>"
