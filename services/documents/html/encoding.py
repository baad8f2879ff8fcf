"""The text of a page, whose encoding may be declared in several ways."""

from __future__ import annotations

import codecs
import contextlib
import re
from typing import Final

# WHATWG HTML 13.2.3.2: the encoding is declared within the first 1024 bytes.
PRESCAN_BYTES: Final = 1024
CHARSET: Final = re.compile(rb"""<meta[^>]*?charset\s*=\s*["']?\s*([A-Za-z0-9_.:-]+)""", re.IGNORECASE)
DECLARED: Final = re.compile(rb"""^\s*<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9_.:-]+)""", re.IGNORECASE)
# WHATWG Encoding 4.2: the names that pages use for what is read as something wider.
READ_AS: Final = {
    "ascii": "cp1252", "us-ascii": "cp1252", "latin1": "cp1252", "latin-1": "cp1252", "iso-8859-1": "cp1252",
    "iso-8859-9": "cp1254", "gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "sjis": "cp932",
    "euc-kr": "cp949", "ks_c_5601-1987": "cp949", "x-sjis": "cp932", "macintosh": "mac-roman",
}  # fmt: skip
# Python knows more; these are the encodings of pages. UTF-16 has its mark, or is recognised by its zeros.
ENCODING: Final = re.compile(
    r"utf-?8|cp\d+|iso-8859-\d+|windows-\d+|koi8-[ru]|gb18030|big5(-hkscs)?|euc-jp|iso-2022-jp|mac-roman|tis-620|ibm866"
)
MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
UNMARKED: Final = ((b"<\0", "utf-16-le"), (b"\0<", "utf-16-be"))


def decode(source: bytes) -> str:
    """The text of a page by its mark, its zeros, by what it says, as UTF-8, or else as Windows-1252."""
    for mark, encoding in MARKS:
        if source.startswith(mark):
            return source[len(mark) :].decode(encoding, errors="replace")
    for start, encoding in UNMARKED:
        if source.startswith(start):
            return source.decode(encoding, errors="replace")
    declared = DECLARED.search(source[:PRESCAN_BYTES]) or CHARSET.search(source[:PRESCAN_BYTES])
    name = declared[1].decode("ascii").lower() if declared is not None else ""
    name = READ_AS.get(name, name)
    if ENCODING.fullmatch(name):
        with contextlib.suppress(LookupError):
            return source.decode(name, errors="replace")
    try:
        return source.decode("utf-8")
    except UnicodeDecodeError:
        return source.decode("cp1252", errors="replace")
