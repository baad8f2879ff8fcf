"""OCR in the languages that a job names."""

from __future__ import annotations

from pathlib import Path

from switchyard.services.documents.model.document import Options
from switchyard.services.documents.pdf import read as pdf
from tests.documents.corpus import needs_german
from tests.documents.pdf_files import page_of

GERMAN = (
    "Die Brücke über die Weiße Elster",
    "wurde größtenteils aus Stahl gebaut;",
    "Fußgänger dürfen sie benützen.",
)


def read(path: Path, *languages: str) -> str:
    """What OCR makes of a page with the text, whose own letters it does not look at."""
    escaped = ["".join(c if c.isascii() else f"\\{ord(c):03o}" for c in line) for line in GERMAN]
    content = "".join(f"BT /H 14 Tf 72 {700 - 30 * n} Td ({line}) Tj ET\n" for n, line in enumerate(escaped))
    font = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"
    path.write_bytes(page_of(content, resources=f"/Font << /H {font} >>"))
    (read,) = pdf.read(path, Options("always", languages, 1)).pages
    return " ".join(read.markdown.split())


@needs_german
def test_umlauts_are_read_where_the_job_names_german(tmp_path: Path) -> None:
    assert read(tmp_path / "german.pdf", "deu") == " ".join(GERMAN)


@needs_german
def test_several_languages_are_read_at_once(tmp_path: Path) -> None:
    assert read(tmp_path / "german.pdf", "eng", "deu") == " ".join(GERMAN)


@needs_german
def test_english_alone_misses_them(tmp_path: Path) -> None:
    assert read(tmp_path / "german.pdf", "eng") != " ".join(GERMAN)
