"""Formulas of Word documents become LaTeX that says the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.documents.corpus import converted
from tests.documents.office_files import p, r, write_docx


def mr(text: str, properties: str = "") -> str:
    return f"<m:r>{properties}<m:t>{text}</m:t></m:r>"


def e(inside: str, name: str = "e") -> str:
    return f"<m:{name}>{inside}</m:{name}>"


def formula(tmp_path: Path, inside: str) -> str:
    path = write_docx(tmp_path / "f.docx", p(r("So "), f"<m:oMath>{inside}</m:oMath>", r(" holds.")))
    made = converted(path).strip()
    assert made.startswith("So ")
    assert made.endswith(" holds.")
    return made.removeprefix("So ").removesuffix(" holds.")


SUM = (
    '<m:nary><m:naryPr><m:chr m:val="\u2211"/></m:naryPr>'
    + e(mr("n=1"), "sub") + e(mr("\u221e"), "sup") + e(mr("a")) + "</m:nary>"
)  # fmt: skip


@pytest.mark.parametrize(
    ("inside", "wanted"),
    [
        (mr("A=\u03c0") + "<m:sSup>" + e(mr("r")) + e(mr("2"), "sup") + "</m:sSup>", r"A=\pi r^{2}"),
        ("<m:f>" + e(mr("a+b"), "num") + e(mr("c"), "den") + "</m:f>", r"\frac{a+b}{c}"),
        (
            '<m:f><m:fPr><m:type m:val="noBar"/></m:fPr>' + e(mr("n"), "num") + e(mr("k"), "den") + "</m:f>",
            r"\genfrac{}{}{0pt}{}{n}{k}",
        ),
        (
            '<m:f><m:fPr><m:type m:val="lin"/></m:fPr>' + e(mr("a"), "num") + e(mr("b"), "den") + "</m:f>",
            "a/b",
        ),
        (
            "<m:sSup>" + e("<m:f>" + e(mr("a"), "num") + e(mr("b"), "den") + "</m:f>") + e(mr("2"), "sup")
            + "</m:sSup>",
            r"{\frac{a}{b}}^{2}",
        ),
        ("<m:sSubSup>" + e(mr("x")) + e(mr("i"), "sub") + e(mr("2"), "sup") + "</m:sSubSup>", "x_{i}^{2}"),
        ("<m:sPre>" + e(mr("6"), "sub") + e(mr("14"), "sup") + e(mr("C")) + "</m:sPre>", "{}_{6}^{14}C"),
        (
            '<m:rad><m:radPr><m:degHide m:val="1"/></m:radPr>' + e("", "deg") + e(mr("2")) + "</m:rad>",
            r"\sqrt{2}",
        ),
        ("<m:rad>" + e(mr("3"), "deg") + e(mr("x")) + "</m:rad>", r"\sqrt[3]{x}"),
        (SUM, r"\sum_{n=1}^{\infty}a"),
        ("<m:nary>" + e("", "sub") + e("", "sup") + e(mr("f")) + "</m:nary>", r"\int f"),
        ("<m:d>" + e(mr("x")) + "</m:d>", r"\left(x\right)"),
        (
            '<m:d><m:dPr><m:begChr m:val="{"/><m:endChr m:val=""/></m:dPr>' + e(mr("x")) + "</m:d>",
            r"\left\{x\right.",
        ),
        ("<m:func>" + e(mr("sin"), "fName") + e(mr("x")) + "</m:func>", r"\sin x"),
        (
            "<m:func>" + e("<m:limLow>" + e(mr("lim")) + e(mr("x\u21920"), "lim") + "</m:limLow>", "fName")
            + e(mr("f")) + "</m:func>",
            r"\lim_{x\to 0} f",
        ),
        (
            "<m:m><m:mr>" + e(mr("a")) + e(mr("b")) + "</m:mr>"
            + "<m:mr>" + e(mr("c")) + e(mr("d")) + "</m:mr></m:m>",
            r"\begin{matrix}a & b \\ c & d\end{matrix}",
        ),
        ("<m:eqArr>" + e(mr("a")) + e(mr("b")) + "</m:eqArr>", r"\begin{aligned}a \\ b\end{aligned}"),
        ('<m:acc><m:accPr><m:chr m:val="\u20d7"/></m:accPr>' + e(mr("v")) + "</m:acc>", r"\vec{v}"),
        ('<m:bar><m:barPr><m:pos m:val="top"/></m:barPr>' + e(mr("z")) + "</m:bar>", r"\overline{z}"),
        (
            '<m:groupChr><m:groupChrPr><m:chr m:val="\u23de"/></m:groupChrPr>'
            + e(mr("a+b")) + "</m:groupChr>",
            r"\overbrace{a+b}",
        ),
        (mr("x \u2208 \u211d, y&lt;z, 50% #1"), r"x \in \mathbb{R}, y< z, 50\% \#1"),
        (mr("\U0001d465\u2212\U0001d6fc"), r"x-\alpha"),
        (mr("otherwise", "<m:rPr><m:nor/></m:rPr>"), r"\text{otherwise}"),
        (mr("a") + "<m:unheard>" + mr("b") + "</m:unheard>", "ab"),
    ],
)  # fmt: skip
def test_a_formula_is_written_as_latex(tmp_path: Path, inside: str, wanted: str) -> None:
    assert formula(tmp_path, inside) == f"${wanted}$"


def test_formulas_side_by_side_stay_apart(tmp_path: Path) -> None:
    body = p(f"<m:oMath>{mr('a')}</m:oMath><m:oMath>{mr('b')}</m:oMath>")
    assert converted(write_docx(tmp_path / "f.docx", body)) == "$a$ $b$\n"


def test_a_formula_of_its_own_is_a_block(tmp_path: Path) -> None:
    body = p(f"<m:oMathPara><m:oMath>{mr('a=b')}</m:oMath></m:oMathPara>")
    assert converted(write_docx(tmp_path / "f.docx", body)) == "$$a=b$$\n"


def test_a_formula_of_endless_depth_keeps_its_letters(tmp_path: Path) -> None:
    depth = 80
    inside = "<m:d><m:e>" * depth + mr("x") + "</m:e></m:d>" * depth
    made = formula(tmp_path, inside)
    assert made.count(r"\left(") < depth
    assert "x" in made


def test_an_empty_formula_is_nothing(tmp_path: Path) -> None:
    assert converted(write_docx(tmp_path / "f.docx", p(r("a"), "<m:oMath/>", r("b")))) == "ab\n"
