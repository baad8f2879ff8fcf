"""What is filled into a form, and what is typed or remarked on a document."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook
from openpyxl.comments import Comment
from PIL import Image, ImageDraw
from pptx import Presentation

from tests.documents.corpus import converted, needs_ocr, report
from tests.documents.hostile import zipped
from tests.documents.office_files import DECLARED, p, relationships, write_docx
from tests.documents.pdf_files import HELVETICA, pdf_of, stream_of, texts_of

ON_BODY = [(72.0, 300.0, "Some plain text that stands below the form of this page.")]


def form(
    path: Path,
    texts: Sequence[tuple[float, float, str]],
    annotations: Sequence[str],
    *,
    objects: Sequence[str] = (),
    listed: bool = True,
    more: str = "",
) -> Path:
    """A PDF of one page with annotations; the objects after them are numbered from 5 and their count.

    Args:
        listed: whether the document has a form that lists its fields.
        more: further entries of the form.
    """
    names = " ".join(f"{5 + number} 0 R" for number in range(len(annotations)))
    of_form = f"/AcroForm << /Fields [{names}] /DA (/H 10 Tf) {more} >>" if listed else ""
    page = f"<< /Type /Page /Parent 2 0 R /Contents 4 0 R /Resources << {HELVETICA} >> /Annots [{names}] >>"
    path.write_bytes(
        pdf_of(
            [
                f"<< /Type /Catalog /Pages 2 0 R {of_form} >>",
                "<< /Type /Pages /Kids [3 0 R] /Count 1 /MediaBox [0 0 612 792] >>",
                page,
                stream_of(texts_of(texts)),
                *(f"<< /Type /Annot {each} >>" for each in annotations),
                *objects,
            ]
        )
    )
    return path


def widget(kind: str, x: float, y: float, more: str, *, width: float = 120, flags: int = 4) -> str:
    """A field without any appearance, on the line of a text at the same height."""
    rect = f"/Rect [{x} {y - 3} {x + width} {y + 11}]"
    return f"/Subtype /Widget /F {flags} /FT /{kind} {rect} {more}"


@pytest.mark.parametrize("listed", [True, False])
def test_texts_of_a_form_stand_beside_their_labels(tmp_path: Path, *, listed: bool) -> None:
    texts = [(72.0, 700.0, "Name:"), (72.0, 680.0, "City:"), (300.0, 680.0, "Code:"), (72.0, 660.0, "Notes:")]
    fields = [
        widget("Tx", 110, 700, "/T (name) /V (Ada <b>Lovelace)"),
        widget("Tx", 110, 680, "/T (city) /V <FEFF004B00F6006C006E>"),
        widget("Tx", 340, 680, "/T (code) /V (50667)"),
        "/Subtype /Widget /FT /Tx /Ff 4096 /Rect [110 620 300 671] /T (notes) /V (first line\\nsecond line)",
        widget("Tx", 110, 600, "/T (empty)"),
        widget("Tx", 110, 580, "/T (hidden) /V (not shown)", flags=2),
        widget("Tx", 110, 560, "/T (secret) /V (hunter2) /Ff 8192"),
    ]
    made = converted(form(tmp_path / "a.pdf", [*texts, *ON_BODY], fields, listed=listed))
    assert made.startswith(
        "Name: Ada \\<b>Lovelace\n\nCity: Köln Code: 50667\n\nNotes:\n\nfirst line second line\n\n"
        "(password)\n\nSome"
    )
    assert "not shown" not in made
    assert "hunter2" not in made


def test_chosen_entries_are_written_as_the_form_shows_them(tmp_path: Path) -> None:
    options = "/Opt [[(r) (Red)] [(b) (Blue)] (Green)]"
    fields = [
        widget("Ch", 130, 700, f"/Ff 131072 /T (one) {options} /V (b)"),
        widget("Ch", 130, 680, f"/Ff 2097152 /T (many) {options} /V [(r) (Green)]"),
        widget("Ch", 130, 660, f"/Ff 393216 /T (own) {options} /V (Violet)"),
    ]
    texts = [(72.0, 700.0, "Colour:"), (72.0, 680.0, "Others:"), (72.0, 660.0, "Own:"), *ON_BODY]
    made = converted(form(tmp_path / "a.pdf", texts, fields))
    assert made.startswith("Colour: Blue\n\nOthers: Red, Green\n\nOwn: Violet\n")


def test_boxes_and_options_of_a_form_show_their_state_with_and_without_appearances(tmp_path: Path) -> None:
    texts = [(90.0, 600.0, "agreed"), (90.0, 585.0, "refused"), (90.0, 570.0, "no state stored")]
    texts += [(90.0, 540.0, "small"), (150.0, 540.0, "large"), (90.0, 520.0, "red"), (150.0, 520.0, "blue")]
    texts += ON_BODY
    drawn = "/AP << /N << /L 17 0 R /Off 17 0 R >> >>"
    fields = [
        widget("Btn", 75, 600, "/T (a) /V /Yes /AS /Yes", width=10),
        widget("Btn", 75, 585, "/T (b) /V /Off /AS /Off", width=10),
        widget("Btn", 75, 570, "/T (c) /V /Yes", width=10),
        "/Subtype /Widget /F 4 /Rect [75 537 85 551] /AS /Off /Parent 15 0 R " + drawn.replace("/L", "/S"),
        "/Subtype /Widget /F 4 /Rect [135 537 145 551] /AS /L /Parent 15 0 R " + drawn,
        "/Subtype /Widget /F 4 /Rect [75 517 85 531] /AS /Red /Parent 16 0 R",
        "/Subtype /Widget /F 4 /Rect [135 517 145 531] /AS /Off /Parent 16 0 R",
        widget("Btn", 75, 480, "/Ff 65536 /T (push) /MK << /CA (Send) >>"),
        widget("Sig", 75, 460, "/T (signature)"),
        widget("Tx", 75, 440, "/T (none)"),
    ]
    groups = [
        "<< /FT /Btn /Ff 49152 /T (size) /V /L /Kids [8 0 R 9 0 R] >>",
        "<< /FT /Btn /Ff 49152 /T (colour) /V /Red /Kids [10 0 R 11 0 R] >>",
        stream_of("", "/Type /XObject /Subtype /Form /BBox [0 0 10 10]"),
    ]
    source = form(tmp_path / "a.pdf", texts, fields, objects=groups)
    source.write_bytes(source.read_bytes().replace(b"/Fields [5 0 R", b"/Fields [15 0 R 16 0 R 5 0 R"))
    made = converted(source)
    assert "- ☑ agreed\n- ☐ refused\n- ☑ no state stored\n- ◯ small ◉ large\n- ◉ red ◯ blue\n" in made
    assert "Send" not in made


def test_values_of_a_form_are_cells_of_its_table(tmp_path: Path) -> None:
    rules = "".join(f"72 {y} m 372 {y} l S\n" for y in (650, 670, 690, 710))
    rules += "".join(f"{x} 650 m {x} 710 l S\n" for x in (72, 222, 372))
    names = [(80.0, 695.0, "Item"), (230.0, 695.0, "Sum"), (80.0, 675.0, "Tea"), (80.0, 655.0, "Milk")]
    fields = [widget("Tx", 230, 675, "/T (a) /V (4.20)"), widget("Tx", 230, 655, "/T (b) /V (1.10)")]
    source = form(tmp_path / "a.pdf", names, fields)
    content = texts_of(names)
    data = source.read_bytes().replace(stream_of(content).encode(), stream_of(content + rules).encode())
    source.write_bytes(data)
    assert "| Item | Sum |\n| --- | --- |\n| Tea | 4.20 |\n| Milk | 1.10 |" in converted(source)


def test_form_without_any_other_text_shows_its_values(tmp_path: Path) -> None:
    fields = [widget("Tx", 100, 700, "/T (a) /V (Ada)"), widget("Btn", 100, 600, "/T (b) /V /Yes /AS /Yes")]
    assert converted(form(tmp_path / "a.pdf", [], fields)) == "Ada\n\n☑\n"


NOTES = [
    "/Subtype /FreeText /Rect [72 400 300 430] /Contents (typed on the page) /DA (/H 10 Tf)",
    "/Subtype /Text /Rect [400 700 420 720] /Contents (check <this>) /T (Bob)",
    "/Subtype /Highlight /Rect [72 300 200 310] /Contents (a remark)",
    "/Subtype /Popup /Rect [72 300 200 310] /Contents (a window)",
    "/Subtype /Text /F 2 /Rect [400 600 420 620] /Contents (hidden)",
    "/Subtype /FreeText /Rect [72 360 300 380] /Contents ()",
]


def test_text_typed_on_a_page_is_content_and_remarks_are_written_where_asked_for(tmp_path: Path) -> None:
    source = form(tmp_path / "a.pdf", ON_BODY, NOTES, listed=False)
    assert converted(source) == f"typed on the page\n\n{ON_BODY[0][2]}\n"
    assert converted(source, comments=True) == (
        f"> Comment by Bob: check \\<this>\n\ntyped on the page\n\n> Comment: a remark\n\n{ON_BODY[0][2]}\n"
    )


@needs_ocr
@pytest.mark.parametrize("shown", [True, False])
def test_scanned_form_shows_what_is_filled_in_once(tmp_path: Path, *, shown: bool) -> None:
    scan = Image.new("L", (1200, 1600), 255)
    draw = ImageDraw.Draw(scan)
    for number in range(8):
        draw.text((120, 200 + 60 * number), "Application for a garden plot in town", font_size=36, fill=0)
    data = io.BytesIO()
    scan.save(data, "JPEG")
    image = data.getvalue().hex() + ">"
    looks = "/AP << /N 7 0 R >>" if shown else ""
    fields = [f"/Subtype /Widget /F 4 /FT /Tx /Rect [72 200 400 240] /T (a) /V (Ada Lovelace) {looks}"]
    xobject = (
        "/Type /XObject /Subtype /Image /Width 1200 /Height 1600 /ColorSpace /DeviceGray /BitsPerComponent 8 "
        "/Filter [/ASCIIHexDecode /DCTDecode]"
    )
    look = f"/Type /XObject /Subtype /Form /BBox [0 0 328 40] /Resources << {HELVETICA} >>"
    source = form(
        tmp_path / "a.pdf",
        [],
        fields,
        objects=[stream_of(image, xobject), stream_of("BT /H 24 Tf 5 10 Td (Ada Lovelace) Tj ET", look)],
    )
    drawn = "q 612 0 0 792 0 0 cm /S Do Q"
    plain = source.read_bytes().replace(stream_of("").encode(), stream_of(drawn).encode())
    source.write_bytes(
        plain.replace(b"/Resources << /Font", b"/Resources << /XObject << /S 6 0 R >> /Font", 1)
    )
    made = converted(source, ocr="auto")
    assert made.count("garden plot") == 8
    assert made.count("Lovelace") == 1


def test_unchecked_box_in_the_text_of_a_page_stays_a_box(tmp_path: Path) -> None:
    source = tmp_path / "a.html"
    source.write_text(
        "<ul><li><input type=checkbox checked> done<li><input type=checkbox disabled> open</ul>"
        "<p>Name: <input value=Ada> <input type=hidden value=x><input type=password value=y>"
        "<input type=submit value=Send> <input type=radio> a <input type=radio checked> b</p>"
        "<p><select><option>one<option selected>two</select> <select><option>language</select></p>"
        "<p>Text: <textarea>long\nwords</textarea></p>",
        encoding="utf-8",
    )
    assert converted(source) == "- ☑ done\n- ☐ open\n\nName: Ada ◯ a ◉ b\n\ntwo\n\nText: long words\n"


def test_comments_of_word_are_notes_where_asked_for(tmp_path: Path) -> None:
    mark = '<w:r><w:commentReference w:id="7"/></w:r>'
    comment = f'<w:comment w:id="7" w:author="Bob">{p("too long")}</w:comment>'
    source = write_docx(
        tmp_path / "a.docx",
        p("Some text", mark, "."),
        links={"c": ("comments", "comments.xml")},
        extra={"word/comments.xml": f"<w:comments {DECLARED}>{comment}</w:comments>"},
    )
    assert converted(source) == "Some text.\n"
    assert converted(source, comments=True) == "Some text[^1].\n\n[^1]: Comment by Bob: too long\n"


def test_comments_of_slides_and_sheets_are_quotes_where_asked_for(tmp_path: Path) -> None:
    book = Workbook()
    sheet: Any = book.active
    sheet.append(["name", "sum"])
    sheet.append(["a", 1])
    sheet["B2"].comment = Comment("is this right?", "Bob")
    book.save(tmp_path / "a.xlsx")
    assert "Bob" not in converted(tmp_path / "a.xlsx")
    assert "| a | 1 |\n\n> Comment by Bob on B2: is this right?\n" in converted(
        tmp_path / "a.xlsx", comments=True
    )
    deck = Presentation()
    deck.slides.add_slide(deck.slide_layouts[5]).shapes.title.text = "Plan"
    deck.save(str(tmp_path / "a.pptx"))
    with zipfile.ZipFile(tmp_path / "a.pptx") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    rels = "ppt/slides/_rels/slide1.xml.rels"
    main = "http://schemas.openxmlformats.org/presentationml/2006/main"
    link = relationships({"c9": ("comments", "../comments/c.xml")}).partition("<Relationship ")[2]
    parts[rels] = parts[rels].replace(b"</Relationships>", f"<Relationship {link}".encode())
    parts["ppt/comments/c.xml"] = (
        f'<p:cmLst xmlns:p="{main}"><p:cm authorId="0"><p:text>say more</p:text></p:cm></p:cmLst>'.encode()
    )
    (tmp_path / "b.pptx").write_bytes(zipped(parts))
    assert converted(tmp_path / "b.pptx") == "# Plan\n"
    assert converted(tmp_path / "b.pptx", comments=True) == "# Plan\n\n> Comment: say more\n"


@pytest.mark.parametrize(
    "annotation",
    [
        "/Subtype /Widget /FT /Tx /V (" + "x" * 2_000_000 + ") /Rect [0 0 1 1]",
        "/Subtype /Widget /FT /Tx /V (a) /Rect [1e30 -1e30 1e38 1e38]",
        "/Subtype /Widget /FT /Tx /V (a) /Rect [100 100 100 100]",
        "/Subtype /Widget /FT /Tx /V (a)",
        "/Subtype /Widget /FT /Btn /Parent 5 0 R /Rect [0 0 9 9]",
        "/Subtype /Widget /FT 5 0 R /V 5 0 R /Rect [0 0 9 9]",
        "/Subtype /FreeText /Contents [5 0 R] /Rect [0 0 9 9]",
    ],
)
@pytest.mark.parametrize("listed", [True, False])
def test_hostile_fields_do_no_harm(tmp_path: Path, annotation: str, *, listed: bool) -> None:
    source = form(tmp_path / "a.pdf", ON_BODY, [annotation], listed=listed)
    assert ON_BODY[0][2] in converted(source, comments=True)


def grouped(path: Path, group: str, kids: Sequence[str]) -> Path:
    """A form whose boxes are of one field, which is no annotation itself."""
    names = " ".join(f"{6 + number} 0 R" for number in range(len(kids)))
    texts = [(72.0, 700.0 - 20 * number, f"Option {number}") for number in range(len(kids))]
    page = f"<< /Type /Page /Parent 2 0 R /Contents 4 0 R /Resources << {HELVETICA} >> /Annots [{names}] >>"
    boxes = [
        f"<< /Type /Annot /Subtype /Widget /F 4 /Parent 5 0 R {more} "
        f"/Rect [150 {697 - 20 * number} 160 {707 - 20 * number}] >>"
        for number, more in enumerate(kids)
    ]
    path.write_bytes(
        pdf_of(
            [
                "<< /Type /Catalog /Pages 2 0 R /AcroForm << /Fields [5 0 R] /DA (/H 10 Tf) >> >>",
                "<< /Type /Pages /Kids [3 0 R] /Count 1 /MediaBox [0 0 612 792] >>",
                page,
                stream_of(texts_of(texts)),
                f"<< /FT /Btn /T (group) {group} /Kids [{names}] >>",
                *boxes,
            ]
        )
    )
    return path


@pytest.mark.parametrize(
    ("group", "kids", "signs", "warned"),
    [
        ("/Ff 32768 /V /b", ["/AS /Off", "/AS /b"], "◯◉", False),
        ("/Ff 32768 /V /b", ["", ""], "◯◯", True),
        ("/Ff 32768 /V /Off", ["/AS /Off", "/AS /Off"], "◯◯", False),
        ("/V /Yes", [""], "☐", True),
        ("/V /Yes", ["/AS /Yes"], "☑", False),
    ],
)
def test_box_whose_state_cannot_be_known_is_warned_of(
    tmp_path: Path, group: str, kids: Sequence[str], signs: str, *, warned: bool
) -> None:
    made = report(grouped(tmp_path / "a.pdf", group, kids))
    assert [sign for sign in made["markdown"] if sign in "◯◉☐☑"] == list(signs)
    assert len(made["warnings"]) == warned
    if warned:
        assert "do not show whether they are chosen" in made["warnings"][0]


def test_rich_values_and_signatures_are_written_and_what_is_drawn_alone_is_warned_of(tmp_path: Path) -> None:
    rich = "<body><p>Rich &amp; <b>bold</b></p></body>"
    drawn = "/AP << /N 9 0 R >>"
    fields = [
        widget("Tx", 110, 700, f"/T (rich) /Ff 33554432 /RV ({rich})"),
        widget("Sig", 110, 680, "/T (sign) /V << /Type /Sig /Filter /Adobe.PPKLite >>"),
        f"/Subtype /FreeText /F 4 /RC ({rich}) /Rect [72 597 172 611]",
        f"/Subtype /Stamp /F 4 {drawn} /Rect [72 560 172 574]",
    ]
    look = stream_of("BT /H 10 Tf 0 2 Td (PAID) Tj ET", "/Type /XObject /Subtype /Form /BBox [0 0 99 10]")
    texts = [(72.0, 700.0, "Rich:"), (72.0, 680.0, "Signature:"), *ON_BODY]
    made = report(form(tmp_path / "a.pdf", texts, fields, objects=[look]))
    assert made["markdown"].startswith("Rich: Rich & bold\n\nSignature: (signed)\n\nRich & bold\n\n")
    assert made["warnings"] == ["page 1: the text of 1 stamps or fields is drawn and was not read"]


@pytest.mark.parametrize(
    ("fields", "warned"), [([], True), ([widget("Tx", 110, 700, "/T (a) /V (b)")], False)]
)
def test_form_that_is_xfa_alone_is_named(tmp_path: Path, fields: Sequence[str], *, warned: bool) -> None:
    made = report(form(tmp_path / "a.pdf", ON_BODY, fields, more="/XFA (<xdp/>)"))
    assert any("XFA form" in warning for warning in made["warnings"]) == warned
