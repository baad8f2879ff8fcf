"""The text of shapes: paragraphs, bullets and numbers, each as the slide shows it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from switchyard.services.documents.model import runs as inline
from switchyard.services.documents.model.pieces import Depths, Piece
from switchyard.services.documents.model.runs import Look, Run
from switchyard.services.documents.model.scripts import DOWN, UP
from switchyard.services.documents.office.formulas import M, latex
from switchyard.services.documents.office.package import RELATIONSHIPS, Element, Relation, chosen
from switchyard.services.documents.office.slides.layout import A, Shape, Template
from switchyard.services.documents.office.word.numbering import written
from switchyard.services.documents.office.word.styles import MONOSPACED, integer

BULLETS: Final = {f"{A}{name}" for name in ("buNone", "buChar", "buAutoNum", "buBlip")}
FORMATS: Final = {
    "alphaLc": "lowerLetter", "alphaUc": "upperLetter", "romanLc": "lowerRoman", "romanUc": "upperRoman",
}  # fmt: skip
ON: Final = {"1", "true"}
LEVELS: Final = 9


class TextReader:
    """Reads the text of one slide."""

    def __init__(self, relations: dict[str, Relation], template: Template) -> None:
        self._relations = relations
        self._template = template

    def line(self, holder: Element) -> str:
        """All paragraphs within, in one line."""
        return " ".join(text for paragraph in holder.iter(f"{A}p") if (text := self.runs(paragraph)))

    def runs(self, paragraph: Element) -> str:
        """A paragraph as inline Markdown."""
        return inline.render(self._runs(paragraph))

    def paragraphs(self, shape: Shape) -> Iterator[Piece]:
        """The paragraphs of a shape, those with a bullet or a number as items."""
        depths, counts = Depths(), [0] * LEVELS
        for paragraph in shape.element.iter(f"{A}p"):
            runs = list(self._runs(paragraph))
            text = inline.render(runs)
            if not text:
                continue
            properties = paragraph.find(f"{A}pPr")
            level = integer(properties.get("lvl"), 0) if properties is not None else 0
            level = min(max(level, 0), LEVELS - 1)
            bullet = self._bullet(shape, properties, level)
            numbered = bullet is not None and bullet.tag == f"{A}buAutoNum"
            start = integer(bullet.get("startAt"), 1) if bullet is not None and numbered else 1
            counts[level] = (counts[level] + 1 if counts[level] else start) if numbered else 0
            counts[level + 1 :] = [0] * (LEVELS - level - 1)
            if bullet is None:
                depths.end()
                code = all(run.look.code for run in runs if run.text.strip())
                yield Piece("code", inline.verbatim(runs)) if code else Piece("paragraph", text)
                continue
            mark, label = _mark(bullet.get("type", ""), counts[level]) if numbered else ("-", "")
            yield Piece("item", f"{label} {text}".strip(), level=depths.of(level), mark=mark)

    def _bullet(self, shape: Shape, properties: Element | None, level: int) -> Element | None:
        """What stands before a paragraph by its own word or by the nearest of those it inherits from."""
        inherited = (style.find(f"{A}lvl{level + 1}pPr") for style in self._template.levels(shape))
        for holder in (properties, *inherited):
            for child in holder if holder is not None else ():
                if child.tag in BULLETS:
                    return None if child.tag == f"{A}buNone" else child
        return None

    def _runs(self, paragraph: Element) -> Iterator[Run]:
        for child in chosen(paragraph):
            if child.tag == f"{A}br":
                yield Run("\n")
            elif child.tag == f"{A}r" or (child.tag == f"{A}fld" and child.get("type") != "slidenum"):
                yield Run(child.findtext(f"{A}t") or "", self._look(child.find(f"{A}rPr")))
            elif child.tag not in {f"{A}fld", f"{A}pPr", f"{A}endParaRPr"}:
                yield Run(_formulas(child), raw=True)

    def _look(self, properties: Element | None) -> Look:
        if properties is None:
            return Look()
        font, clicked = properties.find(f"{A}latin"), properties.find(f"{A}hlinkClick")
        relation = self._relations.get(clicked.get(f"{RELATIONSHIPS}id", "")) if clicked is not None else None
        return Look(
            bold=properties.get("b") in ON,
            italic=properties.get("i") in ON,
            struck=properties.get("strike", "noStrike") != "noStrike",
            code=font is not None and bool(MONOSPACED.search(font.get("typeface", ""))),
            link=relation.target if relation is not None and relation.external else "",
            script=_script(properties.get("baseline", "")),
        )


def _script(baseline: str) -> str:
    """Whether text stands above or below the line, by how far: in thousandths of a percent, or in percent."""
    moved = integer(baseline.partition("%")[0].partition(".")[0], 0)
    return UP if moved > 0 else DOWN if moved < 0 else ""


def _mark(kind: str, count: int) -> tuple[str, str]:
    """Markdown's mark and, where Markdown has no such numbers, the label as it is shown."""
    if kind.startswith("arabic"):
        return f"{count}.", ""
    written_as = next((name for start, name in FORMATS.items() if kind.startswith(start)), "decimal")
    number = written(count, written_as)
    if kind.endswith("ParenBoth"):
        return "-", f"({number})"
    return "-", f"{number})" if kind.endswith("ParenR") else f"{number}."


def _formulas(holder: Element) -> str:
    """What formulas there are in something that a drawing holds instead of text."""
    tags = (f"{M}oMathPara", f"{M}oMath")
    outermost = (each for each in holder.iter(*tags) if each is holder or each.getparent().tag not in tags)
    return "\n".join(written for formula in outermost for written in latex(formula))
