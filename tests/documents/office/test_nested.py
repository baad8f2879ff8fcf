"""What a Word document has where text is not expected, once and not lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.documents.corpus import report
from tests.documents.office_files import p, r, write_docx

MATH = "<m:oMath><m:r><m:t>x</m:t></m:r></m:oMath>"
BEGIN = '<w:r><w:fldChar w:fldCharType="begin"/></w:r><w:r><w:instrText>PAGE</w:instrText></w:r>'


def box(inside: str) -> str:
    """A text box as Word writes it, once for newer and once for older programs."""
    text = f"<w:txbxContent>{inside}</w:txbxContent>"
    newer = f"<w:drawing><wps:wsp><wps:txbx>{text}</wps:txbx></wps:wsp></w:drawing>"
    older = f"<w:pict><v:shape><v:textbox>{text}</v:textbox></v:shape></w:pict>"
    return f"<w:r>{alternatives(newer, older)}</w:r>"


def alternatives(*choices: str) -> str:
    *newer, older = choices
    of_newer = "".join(f'<mc:Choice Requires="wps">{each}</mc:Choice>' for each in newer)
    return f"<mc:AlternateContent>{of_newer}<mc:Fallback>{older}</mc:Fallback></mc:AlternateContent>"


@pytest.mark.parametrize(
    ("body", "markdown"),
    [
        (p("a", box(p("b", box(p("c"))))), "a\n\nb\n\nc"),
        (p("a", f"<w:p>{r('nested')}</w:p>"), "a\n\nnested"),
        (p("a", f"<w:tbl><w:tr><w:tc>{p('b')}</w:tc><w:tc>{p('c')}</w:tc></w:tr></w:tbl>"),
         "a\n\n| b | c |\n| --- | --- |"),
        (p('<w:r><w:pict><v:shape><v:textpath string="DRAFT"/></v:shape></w:pict></w:r>'), "DRAFT"),
        (p(alternatives('<x:new xmlns:x="urn:x"/>', r("older"))), "older"),
        (p(alternatives('<x:new xmlns:x="urn:x"/>', r("newer"), r("older"))), "newer"),
        (p(alternatives(r("newer"), r("older"))), "newer"),
        (f"{r('loose ')}{r('runs')}{p('b')}<m:oMathPara>{MATH}</m:oMathPara>", "loose runs\n\nb\n\n$$x$$"),
        (f"<w:hyperlink>{r('loose')}</w:hyperlink>", "loose"),
        (f"<w:tbl><w:tr><w:tc>{r('b')}</w:tc><w:tc>{p('c')}</w:tc></w:tr></w:tbl>",
         "| b | c |\n| --- | --- |"),
        (p("a", BEGIN) + p("after a field without an end"), "a\n\nafter a field without an end"),
        (p("a", f"<w:ins>{r('b')}<w:del><w:r><w:delText>x</w:delText></w:r></w:del></w:ins>"), "ab"),
        (f"<w:ins>{p('in')}</w:ins><w:sdt><w:sdtContent>{p('of')}</w:sdtContent></w:sdt>", "in\n\nof"),
        (p(f"<w:r><w:ruby><w:rt>{r('up')}</w:rt><w:rubyBase>{r('b')}</w:rubyBase></w:ruby></w:r>"), "b"),
    ],
)  # fmt: skip
def test_text_is_written_once_wherever_it_stands(tmp_path: Path, body: str, markdown: str) -> None:
    made = report(write_docx(tmp_path / "a.docx", body))
    assert made["markdown"] == f"{markdown}\n"
    assert made["warnings"] == []


def test_field_whose_code_takes_paragraphs_is_still_one(tmp_path: Path) -> None:
    code = "<w:r><w:instrText> IF a</w:instrText></w:r>"
    end = (
        '<w:r><w:fldChar w:fldCharType="separate"/></w:r>'
        + r("shown")
        + '<w:r><w:fldChar w:fldCharType="end"/></w:r>'
    )
    made = report(write_docx(tmp_path / "a.docx", p(BEGIN) + p(code, "not shown") + p(end)))
    assert made["markdown"] == "shown\n"
