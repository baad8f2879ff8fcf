"""Rich Text: paragraphs, headings, lists, tables, notes and links.

Source: Rich Text Format (RTF) specification, version 1.9.1.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from switchyard.services.documents.errors import FatalError
from switchyard.services.documents.model import pieces
from switchyard.services.documents.model import runs as inline
from switchyard.services.documents.model.document import Document, Options, Page
from switchyard.services.documents.model.pieces import Piece
from switchyard.services.documents.model.runs import PLAIN, Look, Run
from switchyard.services.documents.model.scripts import DOWN, UP
from switchyard.services.documents.rtf_rows import Rows

TOKEN: Final = re.compile(
    rb"\\([A-Za-z]{1,32})(-?[0-9]{1,10})? ?|\\'([0-9A-Fa-f]{2})|\\([^A-Za-z])|([{}])|([^\\{}\r\n]+)|[\r\n]+"
)
MAX_DEPTH: Final = 1_000  # of groups
SKIPPED: Final = frozenset({
    "bkmkend", "bkmkstart", "colorschememapping", "colortbl", "datastore", "fchars", "filetbl", "footer",
    "footerf", "footerl", "footerr", "generator", "header", "headerf", "headerl", "headerr", "info", "lchars",
    "latentstyles", "listoverridetable", "listtable", "nonshppict", "objdata", "pgdsctbl", "pict", "pnseclvl",
    "revtbl", "rsidtbl", "shprslt", "themedata", "tc", "xe", "xmlnstbl",
})  # fmt: skip
READ: Final = frozenset({"fldinst", "shppict", "shpinst", "shptxt"})  # though they say they may be skipped
SIGNS: Final = {
    "bullet": "•", "emdash": "\u2014", "emspace": " ", "endash": "\u2013", "enspace": " ",
    "ldblquote": "\u201c", "line": "\n", "lquote": "\u2018",
    "nestcell": " ", "nestrow": " ", "qmspace": " ", "rdblquote": "\u201d",
    "rquote": "\u2019", "tab": "\t",
}  # fmt: skip
CUT_OFF: Final = "the Rich Text has no end: it may have been cut off, and what stood there is missing then"
SYMBOLS: Final = {b"~": "\u00a0", b"_": "-", b"\\": "\\", b"{": "{", b"}": "}", b"\n": "\n", b"\r": "\n"}
CHARSETS: Final = {
    77: "mac-roman", 128: "cp932", 129: "cp949", 134: "gb18030", 136: "big5", 161: "cp1253", 162: "cp1254",
    163: "cp1258", 177: "cp1255", 178: "cp1256", 186: "cp1257", 204: "cp1251", 222: "cp874", 238: "cp1250",
}  # fmt: skip
CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f]+")
HEADING: Final = re.compile(r"heading ([1-9])", re.IGNORECASE)
NUMBER: Final = re.compile(r"\d{1,9}[.)]")
ADDRESS: Final = re.compile(r'\s*HYPERLINK\s+(?!\\)"?([^"\s]+)"?', re.IGNORECASE)


@dataclass(slots=True)
class _Group:
    """What holds until a group ends.

    Args:
        reads: where its text goes: into the `body`, nowhere (`""`), or into what its name says.
        fallback: how many characters stand after one of Unicode for those who know it not.
    """

    look: Look = PLAIN
    hidden: bool = False
    reads: str = "body"
    fallback: int = 1
    encoding: str = "cp1252"
    starts: bool = True  # whether nothing of it was read
    optional: bool = False


@dataclass(slots=True)
class _Paragraph:
    level: int = 0
    depth: int = 0
    in_table: bool = False
    label: str = ""


@dataclass(slots=True)
class _Reader:
    """Reads one file."""

    source: bytes
    images: int = 0
    is_cut_off: bool = False  # whether groups have begun that never end
    _group: _Group = field(default_factory=_Group)
    _open: list[_Group] = field(default_factory=list)
    _runs: list[Run] = field(default_factory=list)
    _bytes: bytearray = field(default_factory=bytearray)
    _paragraph: _Paragraph = field(default_factory=_Paragraph)
    _cells: list[str] = field(default_factory=list)
    _cell: list[str] = field(default_factory=list)
    _rows: Rows = field(default_factory=Rows)
    _high: int = 0
    _left_out: int = 0  # characters still to be left out
    _encoding: str = "cp1252"
    _fonts: dict[int, str] = field(default_factory=dict)
    _font: int = 0
    _levels: dict[int, int] = field(default_factory=dict)  # of headings, by the number of their style
    _style: tuple[int, str] = (0, "")
    _links: list[str] = field(default_factory=list)
    _notes: list[str] = field(default_factory=list)
    _aside: list[tuple[int, list[Run], _Paragraph]] = field(default_factory=list)  # while a note is read

    def read(self) -> Iterator[Piece]:
        """The text, then its notes."""
        at = 0
        while at < len(self.source):
            token = TOKEN.match(self.source, at)
            if token is None:
                at += 1
                continue
            at = token.end()
            word, number, byte, symbol, brace, text = token.groups()
            if brace == b"{":
                self._begin()
            elif brace == b"}":
                self._end()
            elif byte is not None:
                if not self._is_left_out(1):
                    self._bytes.append(int(byte, 16))
            elif text is not None:
                self._text(text)
            elif symbol is not None:
                self._symbol(symbol)
            elif word == b"bin":  # bytes that are no text
                at += max(int(number or 0), 0)
            elif word is not None:
                yield from self._word(word.decode("ascii"), None if number is None else int(number))
        self.is_cut_off = bool(self._open)
        yield from self._ended()
        yield from self._table()
        for number, note in enumerate(self._notes, start=1):
            yield Piece("footnote", note, mark=str(number))

    def _begin(self) -> None:
        self._flush()
        self._left_out = 0
        if len(self._open) == MAX_DEPTH:
            raise FatalError("too_deep", "the groups of the file are nested too deeply to be read")
        self._open.append(self._group)
        self._group = replace(self._group, starts=True, optional=False)

    def _end(self) -> None:
        self._flush()
        self._left_out = 0
        if not self._open:
            return
        if self._group.reads == "stylesheet" and self._style[1]:
            named = HEADING.match(self._style[1].strip())
            if named is not None:
                self._levels[self._style[0]] = int(named[1])
            self._style = (0, "")
        self._group = self._open.pop()
        if self._aside and len(self._open) < self._aside[-1][0]:
            note = inline.render(self._runs).replace("\n", " ")
            _, self._runs, self._paragraph = self._aside.pop()
            self._notes.append(note)
            self._runs.append(Run(f"[^{len(self._notes)}]", raw=True))

    def _text(self, text: bytes) -> None:
        self._group.starts = False
        skipped = min(self._left_out, len(text))
        self._left_out -= skipped
        self._bytes += text[skipped:]

    def _is_left_out(self, characters: int) -> bool:
        if self._left_out:
            self._left_out -= characters
            return True
        return False

    def _symbol(self, symbol: bytes) -> None:
        if symbol == b"*":
            self._group.optional = True
        elif symbol in SYMBOLS and not self._is_left_out(1):
            self._add(SYMBOLS[symbol])

    def _flush(self) -> None:
        if self._bytes:
            text = CONTROL.sub("", self._bytes.decode(self._group.encoding, errors="replace"))
            self._bytes.clear()
            self._add(text)

    def _add(self, text: str) -> None:
        self._flush()
        group = self._group
        match group.reads:
            case "body" if not group.hidden:
                self._runs.append(Run(text, group.look))
            case "listtext":
                self._paragraph.label += text
            case "stylesheet":
                self._style = (self._style[0], self._style[1] + text)
            case "fldinst" if self._links:
                self._links[-1] += text

    def _word(self, word: str, number: int | None) -> Iterator[Piece]:
        if self._left_out and word != "u":
            self._left_out = 0
        group = self._group
        begins, group.starts = group.starts, False
        if begins and self._destination(word):
            return
        if group.reads == "fonttbl":
            self._of_font(word, number)
            return
        match word:
            case "par" | "sect" | "page" | "column":
                self._flush()
                yield from self._ended()
            case "cell" | "row" if group.reads == "body":
                self._flush()
                self._cell_ended() if word == "cell" else self._row_ended()
            case "trowd" | "intbl":
                self._paragraph.in_table = True
                self._rows.says(word, 0)
            case "cellx" | "clmrg" | "clvmrg" if group.reads == "body":
                self._rows.says(word, number or 0)
            case "pard":
                self._flush()
                self._paragraph = _Paragraph(label=self._paragraph.label)
            case "s" if group.reads == "stylesheet":
                self._style = (number or 0, "")
            case "s":
                self._paragraph.level = self._levels.get(number or 0, 0)
            case "outlinelevel" if number is not None and 0 <= number < 9 and group.reads == "body":
                self._paragraph.level = number + 1
            case "ilvl":
                self._paragraph.depth = min(max(number or 0, 0), 8)
            case _ if word in SIGNS:
                self._add(SIGNS[word])
            case _ if not self._encodes(word, number or 0):
                self._looks(word, on=number != 0)

    def _encodes(self, word: str, number: int) -> bool:
        """Whether a word stands for a character, or says how those after it are written."""
        group = self._group
        match word:
            case "u":
                self._add(self._unicode(number))
                self._left_out = group.fallback
            case "uc":
                group.fallback = min(max(number, 0), 100)
            case "ansicpg":
                self._encoding = group.encoding = _encoding(number)
            case "mac":
                self._encoding = group.encoding = "mac-roman"
            case "f":
                self._flush()
                group.encoding = self._fonts.get(number) or self._encoding
            case _:
                return False
        return True

    def _unicode(self, number: int) -> str:
        """A character, which may come in two halves."""
        code = number + 0x10000 if number < 0 else number
        high, self._high = self._high, 0
        if 0xD800 <= code < 0xDC00:
            self._high = code
            return ""
        if 0xDC00 <= code < 0xE000:
            return chr(0x10000 + ((high - 0xD800) << 10) + code - 0xDC00) if high else ""
        return chr(code) if 0x20 <= code < 0x110000 else ""

    def _looks(self, word: str, *, on: bool) -> None:
        look = self._group.look
        match word:
            case "b":
                look = replace(look, bold=on)
            case "i":
                look = replace(look, italic=on)
            case "strike" | "striked":
                look = replace(look, struck=on)
            case "super":
                look = replace(look, script=UP if on else "")
            case "sub":
                look = replace(look, script=DOWN if on else "")
            case "nosupersub":
                look = replace(look, script="")
            case "plain":
                look = Look(link=look.link)
            case "v" | "deleted":
                self._flush()
                self._group.hidden = on
                return
            case _:
                return
        self._flush()
        self._group.look = look

    def _destination(self, word: str) -> bool:
        """Whether a group is for something else than text, which its first word says."""
        group = self._group
        if word == "pict" and group.reads in {"body", "sp"}:
            self.images += 1
        if word in SKIPPED or (group.optional and word not in READ):
            group.reads = ""
        elif word in {"fonttbl", "stylesheet", "sp"}:  # the last is of shapes, with names and values in it
            group.reads = word
        elif word in {"listtext", "pntext"} and group.reads == "body":
            group.reads = "listtext"
            self._paragraph.label = ""
        elif word == "field" and group.reads == "body":
            self._links.append("")
            return True
        elif word == "fldinst" and group.reads == "body":
            group.reads = "fldinst"
        elif word == "fldrslt":
            found = ADDRESS.match(self._links[-1]) if self._links else None
            if self._links:
                self._links[-1] = found[1] if found is not None else ""
            group.look = replace(group.look, link=self._links.pop() if self._links else "")
        elif word == "footnote" and group.reads == "body":
            self._aside.append((len(self._open), self._runs, self._paragraph))
            self._runs, self._paragraph = [], _Paragraph()
        else:
            return False
        return True

    def _of_font(self, word: str, number: int | None) -> None:
        if word == "f":
            self._font = number or 0
        elif word == "fcharset":
            self._fonts[self._font] = CHARSETS.get(number or 0, "")
        elif word == "cpg":
            self._fonts[self._font] = _encoding(number or 1252)
        self._bytes.clear()

    def _ended(self) -> Iterator[Piece]:
        """End a paragraph."""
        if self._aside:
            self._runs.append(Run("\n"))
            return
        runs, self._runs = self._runs, []
        label, self._paragraph.label = self._paragraph.label.strip(), ""
        if self._paragraph.in_table:
            self._cell.append(inline.render([Run(f"{label} " if label else ""), *runs]))
            return
        text = inline.render(runs, emphasis=not self._paragraph.level)
        if not text:
            return
        yield from self._table()
        if self._paragraph.level:
            yield from pieces.heading(self._paragraph.level, f"{label} {text}".strip())
        elif label:
            is_number = NUMBER.fullmatch(label) is not None
            mark = label if is_number else "-"
            shown = text if is_number or not any(map(str.isalnum, label)) else f"{label} {text}"
            yield Piece("item", shown, level=self._paragraph.depth, mark=mark)
        else:
            yield Piece("paragraph", text)

    def _cell_ended(self) -> None:
        runs, self._runs = self._runs, []
        label, self._paragraph.label = self._paragraph.label.strip(), ""
        written = [*self._cell, inline.render([Run(f"{label} " if label else ""), *runs])]
        self._cells.append(" ".join(text for text in written if text))
        self._cell = []

    def _row_ended(self) -> None:
        if self._cells:
            self._rows.add(self._cells)
        self._cells, self._cell, self._runs = [], [], []

    def _table(self) -> Iterator[Piece]:
        if self._cells or self._cell:  # a row that does not end
            self._rows.add([*self._cells, " ".join(self._cell)])
            self._cells, self._cell = [], []
        if rows := self._rows.taken():
            yield from pieces.table(rows)


def read(path: Path, options: Options) -> Document:
    """A Rich Text file as one page."""
    del options

    def pages() -> Iterator[Page]:
        made, warnings = read_pieces(path.read_bytes())
        yield Page.of(pieces.blocks(made), warnings=warnings)

    return Document(1, pages())


def read_pieces(source: bytes) -> tuple[list[Piece], tuple[str, ...]]:
    """What Rich Text holds, and warnings of what is left out."""
    reader = _Reader(source)
    made = list(pieces.settled(reader.read()))
    warnings = (f"{reader.images} images of Rich Text are left out",) if reader.images else ()
    return made, (*warnings, *((CUT_OFF,) if reader.is_cut_off else ()))


def _encoding(number: int) -> str:
    name = {10000: "mac-roman", 936: "gb18030", 65001: "utf-8", 0: "cp1252"}.get(number, f"cp{number}")
    try:
        codecs.lookup(name)
    except LookupError:
        return "cp1252"
    return name
