"""What a scan shows beside its words: weight and size of lines, bullets, and the lines of tables."""

from __future__ import annotations

import io
from pathlib import Path

import pypdfium2 as pdfium
import pytest
from PIL import Image, ImageDraw

from switchyard.services.documents.model.document import Options
from switchyard.services.documents.ocr import images, rules
from switchyard.services.documents.ocr.ink import Ink
from switchyard.services.documents.ocr.sizes import measured
from switchyard.services.documents.page.lines import Line, Word
from tests.documents.corpus import needs_ocr
from tests.documents.pdf_files import BOLD_TOO, page_of

DPI = 200
PROSE = (
    "The harbour handled more than four million tonnes in the last year, which",
    "is eight per cent more than in the year before. Most of the growth came",
    "from containers; bulk cargo fell slightly after the closure of the works.",
)


def scan(content: str) -> Image.Image:
    """A page with this content, as a scanner sees it."""
    with pdfium.PdfDocument(io.BytesIO(page_of(content, resources=BOLD_TOO))) as pdf:
        page: Image.Image = pdf[0].render(scale=DPI / 72, grayscale=True).to_pil()
    return page.rotate(0.3, fillcolor=255, resample=Image.Resampling.BICUBIC)


def read(tmp_path: Path, content: str) -> str:
    path = tmp_path / "scan.png"
    scan(content).save(path)
    (page,) = images.read(path, Options("auto", ("eng",), 1)).pages
    return page.markdown


def text(x: float, y: float, words: str, *, font: str = "H", size: float = 10) -> str:
    return f"BT /{font} {size} Tf {x} {y} Td ({words}) Tj ET\n"


def prose(top: float) -> str:
    return "".join(text(72, top - 14 * number, line) for number, line in enumerate(PROSE))


@needs_ocr
def test_headings_are_recognised_by_their_size_and_weight(tmp_path: Path) -> None:
    content = text(72, 740, "Annual Report", font="B", size=18) + prose(700)
    content += text(72, 630, "Traffic", font="B", size=12) + prose(610)
    content += text(72, 540, "Ships", font="B") + prose(520)
    made = read(tmp_path, content)
    assert [line for line in made.splitlines() if line.startswith("#")] == [
        "# Annual Report", "### Traffic", "#### Ships",
    ]  # fmt: skip


def disc(x: float, y: float, *, filled: bool) -> str:
    """A circle of 2 points about a place, of curves."""
    k = 1.1
    curves = (
        f"{x + 2} {y} m {x + 2} {y + k} {x + k} {y + 2} {x} {y + 2} c "
        f"{x - k} {y + 2} {x - 2} {y + k} {x - 2} {y} c {x - 2} {y - k} {x - k} {y - 2} {x} {y - 2} c "
        f"{x + k} {y - 2} {x + 2} {y - k} {x + 2} {y} c "
    )
    return f"{curves} {'f' if filled else '0.6 w S'}\n"


@needs_ocr
def test_bullets_are_recognised_by_their_ink(tmp_path: Path) -> None:
    content = prose(740)
    for number, (left, words) in enumerate(
        [(90, "oats and barley"), (90, "ordinary seed"), (110, "even more of it"), (90, "and water")]
    ):
        y = 660 - 16 * number
        content += disc(left - 9, y + 3, filled=left == 90) + text(left, y, words)
    made = read(tmp_path, content)
    assert made.split("\n\n")[1] == ("- oats and barley\n- ordinary seed\n    - even more of it\n- and water")


@needs_ocr
@pytest.mark.parametrize("grey", [0, 0.7], ids=["black", "faint"])
def test_a_table_between_lines_has_its_wrapped_cells_whole(tmp_path: Path, grey: float) -> None:
    xs, ys = (72, 160, 240, 400), (640, 620, 580, 540)
    content = prose(720) + f"{grey} G 0.8 w\n"
    content += "".join(f"{xs[0]} {y} m {xs[-1]} {y} l S\n" for y in ys)
    content += "".join(f"{x} {ys[0]} m {x} {ys[-1]} l S\n" for x in xs)
    rows = [
        ((626, "Setting"), (626, "Default"), (626, "Meaning")),
        ((596, "workers"), (596, "four"), (604, "how many requests are"), (590, "served")),
        ((556, "timeout"), (556, "thirty"), (564, "seconds after which it"), (550, "ends")),
    ]
    columns = (78, 166, 246, 246)
    cells = [(x, y, words) for row in rows for x, (y, words) in zip(columns, row, strict=False)]
    made = read(tmp_path, content + "".join(text(x, y, words) for x, y, words in cells))
    assert made.split("\n\n")[1].strip() == (
        "| Setting | Default | Meaning |\n| --- | --- | --- |\n"
        "| workers | four | how many requests are served |\n"
        "| timeout | thirty | seconds after which it ends |"
    )


def drawn(*lines: tuple[int, int, int, int], grey: int = 0, width: int = 3, askew: float = 0) -> Image.Image:
    page = Image.new("L", (1200, 900), 245)
    for line in lines:
        ImageDraw.Draw(page).line(line, fill=grey, width=width)
    return page.rotate(askew, fillcolor=245, resample=Image.Resampling.BICUBIC)


@pytest.mark.parametrize("askew", [0, 0.5, -0.9])
@pytest.mark.parametrize("grey", [0, 225], ids=["black", "faint"])
def test_the_lines_of_a_scan_are_found(askew: float, grey: int) -> None:
    page = drawn((100, 400, 1100, 400), (600, 200, 600, 700), grey=grey, askew=askew)
    (across,), (down,) = rules.of(page)
    assert across.at == pytest.approx(400, abs=12)
    assert (across.start, across.end) == pytest.approx((100, 1100), abs=30)
    assert down.at == pytest.approx(600, abs=12)
    assert (down.start, down.end) == pytest.approx((200, 700), abs=30)


def test_areas_and_text_are_no_lines() -> None:
    page = drawn()
    ImageDraw.Draw(page).rectangle((100, 100, 900, 180), fill=0)
    assert rules.of(page) == ([], [])
    assert rules.of(scan(prose(700) + prose(600) + text(72, 500, "Large letters", size=36))) == ([], [])
    assert rules.of(Image.new("L", (300, 300), 255)) == ([], [])
    assert rules.of(Image.effect_noise((600, 600), 60)) == ([], [])


def test_sizes_are_measured_by_words_of_the_same_shape() -> None:
    def line(top: float, height: float, reported: float) -> Line:
        words = tuple(Word(word, 40 * at, top, 40 * at + 30, top + height) for at, word in enumerate("abc"))
        return Line("a b c", 0, top, 110, top + height, reported, words=words)

    plain = [line(50 * number, 20, 40) for number in range(4)]
    larger = line(300, 30, 42)  # which is what the program reports of a line of small letters
    assert [round(each.size) for each in measured([*plain, larger], None)] == [40, 40, 40, 40, 60]


def test_the_width_of_strokes_is_that_of_the_ink() -> None:
    page = drawn((50, 100, 50, 300), (90, 100, 90, 300), width=6)
    assert Ink(page).width_of_strokes((0, 120, 200, 280)) == pytest.approx(6, abs=1)
    assert Ink(page).width_of_strokes((300, 120, 400, 280)) == 0
