"""The check over directories names what documents lose and repeat."""

from __future__ import annotations

import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

from pptx import Presentation
from pptx.enum.shapes import PP_PLACEHOLDER

from tests.documents.corpus import DOCUMENTS
from tests.documents.pdf_files import pages_of, texts_of
from tools.check_documents import check, compared

FOOTER = PP_PLACEHOLDER.FOOTER
LINES = ["The first line of the page says this.", "Whatever stands below it differs wholly."]


def test_lost_and_doubled_lines_are_found() -> None:
    found = compared([LINES], [LINES[0] * 2])
    assert found["lost"] == (LINES[1],)
    assert found["doubled"] == ("thefirstlineofthepagesaysthis",)
    assert found["poor"] == (1,)
    assert 0.4 < found["recall"] < 0.9


def test_lines_put_together_and_words_joined_are_not_lost() -> None:
    found = compared(
        [["A word that is bro", "ken at a line's end."]], ["A word that is broken at a line's end."]
    )
    assert (found["lost"], found["doubled"], found["poor"]) == ((), (), ())


def test_documents_of_every_format_are_compared_with_their_own_words() -> None:
    for path in DOCUMENTS.iterdir():
        if path.suffix in {".pdf", ".docx", ".pptx", ".xlsx"} and "scan" not in path.stem:
            found = check(path)
            assert (found.error, found.poor) == ("", ()), path


def test_breaks_part_words_and_the_footer_of_a_slide_is_not_missed(tmp_path: Path) -> None:
    deck = Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[5])
    slide.shapes.title.text = "Free\vStandard\vLibrary"
    placeholders: Any = deck.slide_layouts[5].placeholders
    layout = next(each for each in placeholders if each.placeholder_format.type == FOOTER)
    footer = deepcopy(layout.element)
    footer.xpath(".//a:p")[0].get_or_add_endParaRPr()
    slide.shapes._spTree.append(footer)
    slide.shapes[-1].text_frame.text = "Confidential and not to be shown to anybody"
    deck.save(str(path := tmp_path / "a.pptx"))
    assert check(path).recall == 1.0


def test_a_directory_is_reported_with_what_cannot_be_converted(tmp_path: Path) -> None:
    (tmp_path / "good.pdf").write_bytes(pages_of([texts_of([(72, 700, LINES[0])])]))
    (tmp_path / "bad.pdf").write_bytes(b"%PDF-1.4 and no more")
    command = [sys.executable, "-m", "tools.check_documents", str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert "2 documents, 1 not converted or compared; 1 pages" in ran.stdout
    assert "bad.pdf: corrupt_file" in ran.stdout
    assert "lines lost: 0, doubled: 0" in ran.stdout
