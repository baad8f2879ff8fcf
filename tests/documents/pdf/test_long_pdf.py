"""A long document is read a page at a time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.documents.pdf_files import pdf_of, stream_of

PAGES = 2_000
MOST_BYTES = 400 * 1024 * 1024

MEASURE = """
import json, re, sys
from switchyard.services.documents.convert import convert
made = convert(json.loads(sys.argv[1]), lambda _: None)
# Not `ru_maxrss`: that begins with what the process had which started this one.
peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024
print(json.dumps({"pages": made["pages"], "bytes": peak}))
"""


def long_pdf(pages: int) -> bytes:
    """Pages of ten lines and a ruled table each."""
    places = zip((100, 250, 400), (100, 130, 160), strict=True)
    rules = "".join(f"100 {y} m 400 {y} l S\n{x} 100 m {x} 160 l S\n" for x, y in places)
    cells = "".join(f"BT /H 10 Tf {x} {y} Td (cell) Tj ET\n" for x in (105, 255) for y in (110, 140))
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(pages))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {pages} /MediaBox [0 0 612 792] >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    resources = "/Resources << /Font << /H 3 0 R >> >>"
    for number in range(pages):
        lines = "".join(
            f"BT /H 10 Tf 72 {700 - 14 * line} Td (Line {line} of page {number + 1} with some words.) Tj ET\n"
            for line in range(10)
        )
        objects.append(f"<< /Type /Page /Parent 2 0 R /Contents {5 + 2 * number} 0 R {resources} >>")
        objects.append(stream_of(lines + rules + cells))
    return pdf_of(objects)


def test_two_thousand_pages_are_read_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "long.pdf"
    path.write_bytes(long_pdf(PAGES))
    arguments = {
        "source": str(path), "directory": str(tmp_path), "name": path.name, "media_type": "", "ocr": "auto",
        "languages": ["eng"], "formats": ["markdown", "json", "text"], "page_breaks": False,
        "max_pages": PAGES,
    }  # fmt: skip
    ran = subprocess.run(
        [sys.executable, "-c", MEASURE, json.dumps(arguments)], capture_output=True, text=True, check=True
    )
    measured = json.loads(ran.stdout)
    assert measured["pages"] == PAGES
    assert measured["bytes"] < MOST_BYTES
    written = (tmp_path / "document.md").read_text()
    assert f"of page {PAGES} with" in written
    assert written.count("| cell | cell |") == 2 * PAGES
