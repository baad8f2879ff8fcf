"""Lists of PDFs whose bullets are drawn, or are letters only by name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.documents.corpus import converted
from tests.documents.pdf_files import page_of, stream_of

ITEMS = ("The filter had not been changed", "The sensor reported 0 bar", "Spare parts are held elsewhere")
LIST = "".join(f"- {item}\n" for item in ITEMS)
KAPPA = 0.5523  # of a quarter circle as a curve


def text(x: float, y: float, words: str, *, size: float = 10) -> str:
    return f"BT /H {size} Tf {x} {y} Td ({words}) Tj ET\n"


def disc(x: float, y: float, size: float, paint: str = "f") -> str:
    """A circle by its centre and diameter."""
    r, k = size / 2, size / 2 * KAPPA
    return (
        f"{x + r} {y} m {x + r} {y + k} {x + k} {y + r} {x} {y + r} c "
        f"{x - k} {y + r} {x - r} {y + k} {x - r} {y} c {x - r} {y - k} {x - k} {y - r} {x} {y - r} c "
        f"{x + k} {y - r} {x + r} {y - k} {x + r} {y} c h {paint}\n"
    )


def square(x: float, y: float, size: float) -> str:
    return f"{x - size / 2} {y - size / 2} {size} {size} re f\n"


def listed(items: Iterable[str], x: float = 86, top: float = 600) -> str:
    return "".join(text(x, top - 14 * number, item) for number, item in enumerate(items))


def markdown_of(tmp_path: Path, content: str) -> str:
    path = tmp_path / "page.pdf"
    path.write_bytes(page_of(text(72, 640, "What was found on the site on that day:") + content))
    return converted(path)


@pytest.mark.parametrize("shape", [disc, square, lambda x, y, size: disc(x, y, size, "S")])
def test_shapes_left_of_lines_are_their_bullets(tmp_path: Path, shape: object) -> None:
    assert callable(shape)
    drawn = "".join(shape(76, 603.5 - 14 * number, 3.8) for number in range(3))
    for content in (drawn + listed(ITEMS), listed(ITEMS) + drawn):
        assert markdown_of(tmp_path, content) == f"What was found on the site on that day:\n\n{LIST}"


def test_shapes_in_forms_are_seen_where_the_forms_put_them(tmp_path: Path) -> None:
    path = tmp_path / "page.pdf"
    form = stream_of(disc(2, 2, 3.8), "/Type /XObject /Subtype /Form /BBox [0 0 9 9]")
    drawn = "".join(f"q 1 0 0 1 74 {601.5 - 14 * number} cm /F Do Q\n" for number in range(3))
    resources = (
        "/XObject << /F 5 0 R >> /Font << /H << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >>"
    )
    path.write_bytes(page_of(drawn + listed(ITEMS), resources=resources, objects=[form]))
    assert converted(path) == LIST


def test_items_go_on_over_lines_and_have_levels(tmp_path: Path) -> None:
    lines = (
        (86, 600, "The filter was not changed, although the"), (86, 588, "plan said so"),
        (104, 572, "since October"), (104, 556, "or even longer"), (86, 540, "Spare parts are elsewhere"),
    )  # fmt: skip
    content = "".join(text(*line) for line in lines)
    content += disc(76, 603.5, 4) + disc(94, 575.5, 4, "S") + disc(94, 559.5, 4, "S") + disc(76, 543.5, 4)
    assert markdown_of(tmp_path, content).split("\n\n", 1)[1] == (
        "- The filter was not changed, although the plan said so\n"
        "    - since October\n    - or even longer\n- Spare parts are elsewhere\n"
    )


def test_a_level_of_one_item_and_an_item_without_text(tmp_path: Path) -> None:
    lines = ((86, 600, "Turbines"), (104, 586, "Turbine 7"), (122, 572, "its gearbox"), (86, 544, "Cables"))
    content = "".join(text(*line) for line in lines)
    content += disc(76, 603.5, 4) + disc(94, 589.5, 4, "S") + square(112, 575.5, 4)
    content += disc(76, 561.5, 4) + disc(76, 547.5, 4)
    content += disc(76, 533.5, 4) + text(86, 530, "Spare parts")
    assert markdown_of(tmp_path, content).split("\n\n", 1)[1] == (
        "- Turbines\n    - Turbine 7\n        - its gearbox\n- Cables\n- Spare parts\n"
    )


def test_lists_beside_each_other(tmp_path: Path) -> None:
    left, right = ("Python", "Go", "Rust"), ("Alpha", "Beta", "Gamma")
    content = listed(left) + listed(right, x=326)
    content += "".join(disc(x, 603.5 - 14 * n, 3.8) for n in range(3) for x in (76, 316))
    made = markdown_of(tmp_path, content)
    assert made.split("\n\n", 1)[1] == "".join(f"- {item}\n" for item in (*left, *right))


@pytest.mark.parametrize(
    "drawn",
    [
        pytest.param(disc(76, 603.5, 3.8), id="a single one"),
        pytest.param("".join(disc(76, 603.5 - 14 * n, 3.8) for n in range(9)), id="marks of a plot"),
        pytest.param("".join(square(76, 603.5 - 14 * n, 9) for n in range(3)), id="boxes to tick"),
        pytest.param("".join(disc(76, 603.5 - 14 * n, 1.2) for n in range(3)), id="dots"),
        pytest.param("".join(disc(40, 603.5 - 14 * n, 3.8) for n in range(3)), id="far from the text"),
        pytest.param("".join(disc(76, 609 - 14 * n, 3.8) for n in range(3)), id="between the lines"),
        pytest.param(
            "".join(disc(76 - 3 * n, 603.5 - 14 * n, 3.8) for n in range(3)), id="not below each other"
        ),
        pytest.param(
            "".join(f"72 {603 - 14 * n} 8 2 re f\n" for n in range(3)), id="dashes of a drawing"
        ),
    ],
)  # fmt: skip
def test_other_shapes_are_no_bullets(tmp_path: Path, drawn: str) -> None:
    assert markdown_of(tmp_path, drawn + listed(ITEMS)) == markdown_of(tmp_path, listed(ITEMS))


def with_font(tmp_path: Path, code: int, glyph: str, meaning: int, lines: Iterable[str]) -> str:
    """Items whose first letter is drawn as a glyph, and means another character."""
    cmap = stream_of(
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapType 2 def\n"
        "1 begincodespacerange <00> <ff> endcodespacerange\n"
        f"1 beginbfchar <{code:02x}> <{meaning:04x}> endbfchar\nendcmap end end"
    )
    base = "/Type /Font /Subtype /Type1 /BaseFont"
    fonts = (
        f"/H << {base} /Helvetica >> /B << {base} /Times-Roman /ToUnicode 5 0 R "
        f"/Encoding << /Type /Encoding /Differences [{code} /{glyph}] >> >>"
    )
    content = "".join(
        f"BT /B 10 Tf 76 {600 - 14 * n} Td <{code:02x}> Tj /H 10 Tf 10 0 Td ({line}) Tj ET\n"
        for n, line in enumerate(lines)
    )
    path = tmp_path / "page.pdf"
    path.write_bytes(page_of(content, resources=f"/Font << {fonts} >>", objects=[cmap]))
    return converted(path)


@pytest.mark.parametrize("meaning", [0x79, 0x02, 0x15])
def test_letters_that_are_drawn_as_bullets_are_bullets(tmp_path: Path, meaning: int) -> None:
    assert with_font(tmp_path, 0x79, "bullet", meaning, ITEMS) == LIST


def test_letters_that_are_drawn_as_letters_stay(tmp_path: Path) -> None:
    lines = ("cat sat there", "mouse came near", "rose was red")
    for glyph in ("a", "y"):
        made = with_font(tmp_path, ord(glyph), glyph, ord(glyph), lines)
        assert made == " ".join(f"{glyph} {line}" for line in lines) + "\n"


@pytest.mark.parametrize("marks", [("1.", "2.", "3."), ("\\225", "\\225", "\\225")])
def test_marks_that_the_content_has_after_their_items_stand_before_them(
    tmp_path: Path, marks: tuple[str, ...]
) -> None:
    path = tmp_path / "page.pdf"
    content = "".join(
        text(92, 600 - 28 * number, item)
        + text(92, 586 - 28 * number, "when we looked at it again in spring")
        + text(78, 600 - 28 * number, mark)
        for number, (item, mark) in enumerate(zip(ITEMS, marks, strict=True))
    )
    fonts = "/Font << /H << /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >> >>"
    path.write_bytes(page_of(content, resources=fonts))
    shown = [mark.replace("\\225", "-") for mark in marks]
    assert converted(path) == "".join(
        f"{mark} {item} when we looked at it again in spring\n"
        for mark, item in zip(shown, ITEMS, strict=True)
    )
