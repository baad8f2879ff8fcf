"""What a file is, by its content alone; a name that says otherwise is an error.

It is a warning where the programs that open files of that name do not mind.
"""

from __future__ import annotations

import mmap
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Final, get_args

from switchyard.services.documents.errors import FatalError
from switchyard.services.documents.model.document import Format
from switchyard.services.documents.office import archive, ole

HEAD_BYTES: Final = 4096
PDF_HEADER_WITHIN: Final = 1024  # ISO 32000-1, annex H.3.4.1: viewers accept the header in the first 1024
# Some viewers look farther. What merely speaks of PDF has no objects.
PDF_HEADER: Final = re.compile(rb"%PDF-[12]\.\d(?=[\r\n\s%])")
BEFORE_PDF: Final = b"\xef\xbb\xbf\xfe\xff\0 \t\r\n\f"  # which says nothing
PDF_SEARCHED: Final = 16 * 1024 * 1024
PDF_OBJECT: Final = re.compile(rb"\d \d+ obj\b")
PDF_END: Final = b"%%EOF"
PDF_TRAILER_WITHIN: Final = 4096
FORMATS: Final[tuple[Format, ...]] = get_args(Format)

NAMES: Final[dict[str, str]] = {
    "pdf": "a PDF document", "png": "a PNG image", "jpeg": "a JPEG image", "tiff": "a TIFF image",
    "docx": "a Word document", "pptx": "a PowerPoint presentation", "xlsx": "an Excel workbook",
    "html": "an HTML page", "zip": "a ZIP archive", "ole": "an old Office document (before 2007)",
    "xlsb": "a binary Excel workbook", "odf": "an OpenDocument file", "epub": "an EPUB book",
    "rtf": "a Rich Text document", "gif": "a GIF image", "webp": "a WebP image", "text": "plain text",
    "mail": "an e-mail message or another one of MIME", "mht": "a web archive (MHTML)",
    "old_word": "an old Word document (before 2007)", "old_excel": "an old Excel workbook (before 2007)",
    "old_powerpoint": "an old PowerPoint presentation (before 2007)", "outlook": "an Outlook message",
    "works": "a document of Microsoft Works", "wordperfect": "a WordPerfect document",
    "write": "a document of Microsoft Write", "lotus": "a Lotus 1-2-3 spreadsheet",
    "visio": "a Visio drawing", "publisher": "a Publisher document", "hangul": "a Hangul document",
    "excel_xml": "a workbook in the XML of Excel 2003", "word_xml": "a document in the XML of Word 2003",
    "flat_xml": "an Office document in a single XML file", "postscript": "a PostScript document",
    "djvu": "a DjVu document", "gzip": "packed with gzip", "bzip2": "packed with bzip2",
    "xz": "packed with xz", "zstd": "packed with Zstandard", "7z": "a 7z archive", "rar": "a RAR archive",
    "jpeg2000": "a JPEG 2000 image", "heif": "an HEIC or AVIF image", "bmp": "a BMP image",
    "photoshop": "a Photoshop image", "binary": "of no known format",
}  # fmt: skip

OF_XML: Final = ("excel_xml", "word_xml", "flat_xml", "odf")
# What an extension or a media type claims; what is not listed claims nothing.
EXTENSIONS: Final[dict[str, frozenset[str]]] = {
    "pdf": frozenset({"pdf"}),
    "png": frozenset({"png"}),
    **dict.fromkeys(("jpg", "jpeg", "jpe", "jfif"), frozenset({"jpeg"})),
    **dict.fromkeys(("tif", "tiff"), frozenset({"tiff"})),
    **dict.fromkeys(("docx", "docm", "dotx"), frozenset({"docx"})),
    **dict.fromkeys(("pptx", "pptm", "ppsx"), frozenset({"pptx"})),
    **dict.fromkeys(("xlsx", "xlsm", "xltx"), frozenset({"xlsx"})),
    **dict.fromkeys(("html", "htm", "xhtml"), frozenset({"html"})),
    "doc": frozenset({"ole", "old_word", "word_xml", "write"}),
    "xls": frozenset({"ole", "old_excel", "excel_xml"}),
    "ppt": frozenset({"ole", "old_powerpoint"}),
    **dict.fromkeys(("odt", "ods", "odp"), frozenset({"odf"})),
    "rtf": frozenset({"rtf"}),
    "eml": frozenset({"mail"}),
    **dict.fromkeys(("mht", "mhtml"), frozenset({"mht", "mail"})),
    "xlsb": frozenset({"xlsb"}),
    "epub": frozenset({"epub"}),
    "zip": frozenset({"zip", "docx", "pptx", "xlsx", "xlsb", "odf", "epub"}),
    "gif": frozenset({"gif"}),
    "webp": frozenset({"webp"}),
    **dict.fromkeys(("txt", "md", "csv", "json", "xml"), frozenset({"text", "html", *OF_XML})),
}
OFFICE: Final = "application/vnd.openxmlformats-officedocument."
MEDIA_TYPES: Final[dict[str, str]] = {
    "application/pdf": "pdf", "image/png": "png", "image/jpeg": "jpeg", "image/tiff": "tiff",
    f"{OFFICE}wordprocessingml.document": "docx", f"{OFFICE}presentationml.presentation": "pptx",
    f"{OFFICE}spreadsheetml.sheet": "xlsx", "text/html": "html", "application/xhtml+xml": "html",
    "application/rtf": "rtf", "text/rtf": "rtf", "message/rfc822": "eml", "multipart/related": "mht",
    "image/gif": "gif", "image/webp": "webp", "application/zip": "zip",
    "application/msword": "doc", "application/vnd.ms-excel": "xls", "application/vnd.ms-powerpoint": "ppt",
}  # fmt: skip

SIGNATURES: Final[tuple[tuple[bytes, str], ...]] = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),  # BigTIFF
    (b"MM\0+", "tiff"),
    (b"GIF8", "gif"),
    (b"{\\rtf", "rtf"),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "ole"),
    (b"\xffWPC", "wordperfect"),
    (b"\x01\xfe2\0", "works"),
    (b"\xff\0\x02\0\x04\x04", "works"),
    (b"1\xbe\0\0", "write"),
    (b"\xdb\xa5-\0", "old_word"),
    *((start, "old_excel") for start in (b"\t\0\4\0", b"\t\2\6\0", b"\t\4\6\0", b"\t\b\b\0\0\5")),
    (b"\0\0\x02\0", "lotus"),
    (b"\0\0\x1a\0", "lotus"),
    (b"%!PS", "postscript"),
    (b"\xc5\xd0\xd3\xc6", "postscript"),
    (b"AT&TFORM", "djvu"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"(\xb5/\xfd", "zstd"),
    (b"7z\xbc\xaf'\x1c", "7z"),
    (b"Rar!\x1a\x07", "rar"),
    (b"\0\0\0\x0cjP  ", "jpeg2000"),
    (b"8BPS", "photoshop"),
)
# XML that is no page, by the names that it begins with; it has tables and titles all the same.
XML_KINDS: Final = (
    (b"urn:schemas-microsoft-com:office:spreadsheet", "excel_xml"),
    (b"http://schemas.microsoft.com/office/word/2003/wordml", "word_xml"),
    (b"http://schemas.microsoft.com/office/2006/xmlPackage", "flat_xml"),
    (b"urn:oasis:names:tc:opendocument", "odf"),
)
MAIN_PARTS: Final = {
    "word/document.xml": "docx", "ppt/presentation.xml": "pptx", "xl/workbook.xml": "xlsx",
    "xl/workbook.bin": "xlsb",
}  # fmt: skip
# Some programs name the main part otherwise and mark it by its type; templates have types of their own.
CONTENT_TYPES: Final = "[Content_Types].xml"
MAIN_TYPES: Final = (
    (re.compile(rb"wordprocessingml\.(document|template)\.main|ms-word\.\w+\.macroEnabled"), "docx"),
    (re.compile(rb"presentationml\.(presentation|slideshow|template)\.main"), "pptx"),
    (re.compile(rb"spreadsheetml\.(sheet|template)\.main|ms-excel\.\w+\.macroEnabled\.main"), "xlsx"),
)
# What other formats that are archives say of themselves in a member called `mimetype`.
MIME_TYPES: Final = {b"application/vnd.oasis.opendocument": "odf", b"application/epub": "epub"}
HTML: Final = re.compile(
    rb"<(!doctype\s+html|html|head|body|title|meta|div|p|h[1-6]|table|ul|ol|article|section|main|span|br)\b",
    re.IGNORECASE,
)

UTF_16: Final = (b"\xff\xfe", b"\xfe\xff", b"<\0", b"\0<")  # by its mark, or as pages begin
PERHAPS_PDF: Final = frozenset({"binary", "text", "html", "mail", "mht"})

# What programs open under another name: those that the name is for, and what they find.
IMAGES: Final = frozenset({"png", "jpeg", "tiff", "gif", "webp"})
OPENED: Final = (
    (IMAGES, IMAGES),
    (
        EXTENSIONS["doc"] | EXTENSIONS["xls"] | EXTENSIONS["ppt"] | {"rtf"},
        frozenset({"docx", "pptx", "xlsx", "html", "rtf"}),
    ),
)
# Mail and web archives begin with lines such as `Subject: ...`; what they enclose may be HTML.
HEADERS: Final = re.compile(
    rb"\s*(?:From [^\n]*\n|HTTP/[\d.]+ [^\n]*\n)?"
    rb"(?:[A-Za-z][A-Za-z0-9-]{0,60}:[^\n]*(?:\n[ \t][^\n]*)*(?:\n|\Z)){2}"
)
OF_MIME: Final = re.compile(
    rb"^(?:MIME-Version|Content-Type|Content-Transfer-Encoding|Received|Return-Path|Message-ID|Delivered-To|"
    rb"Subject|From|To|Date):",
    re.IGNORECASE | re.MULTILINE,
)
RELATED: Final = re.compile(rb"^Content-Type:\s*multipart/related", re.IGNORECASE | re.MULTILINE)

TAG: Final = re.compile(rb"<[a-z][a-z0-9-]*[\s/>]", re.IGNORECASE)  # enough for what calls itself HTML


def sniff(path: Path, *, name: str, media_type: str) -> tuple[Format, tuple[str, ...]]:
    """The format of a file, and warnings.

    Args:
        path: where it is.
        name: what it was called, for its extension.
        media_type: what it was declared to be.

    Raises:
        FatalError: codes `empty_file`, `mislabelled_file`, `unsupported_format`, `encrypted_file`,
            `archive_too_large` and `corrupt_file`.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if not head.strip():
        raise FatalError("empty_file", "the file is empty")
    claims = _claims(name, media_type)
    found = by_content(head)
    if found == "ole":
        found = ole.kind(path)
    if found == "encrypted":
        raise FatalError("encrypted_file", "the document is protected by a password")
    if found == "pdf" and not head.lstrip(BEFORE_PDF).startswith(b"%PDF-") and not _has_objects(path):
        found = _of_text(head)  # which speaks of PDF
    if found in PERHAPS_PDF:
        may_be = any("pdf" in formats for _, formats in claims) or (found == "binary" and not claims)
        found = "pdf" if may_be and pdf_start(path) else found
    if found == "zip":
        found = _inside_zip(path, claimed=claims)
    if found == "text" and any(formats == {"html"} for _, formats in claims) and TAG.search(head):
        found = "html"
    known = next((one for one in FORMATS if one == found), None)
    warnings = []
    for claim, formats in claims:
        if found in formats:
            continue
        mismatch = f"the file is {claim}, but its content is {NAMES[found]}"
        if known is None or not any(formats <= named and found in opened for named, opened in OPENED):
            raise FatalError("mislabelled_file", mismatch)
        warnings.append(f"{mismatch}; it was read as that")
    if known is None:
        raise FatalError("unsupported_format", f"the file is {NAMES[found]}, which cannot be converted")
    if known == "pdf":
        warnings += _around_pdf(path, head)
    return known, tuple(dict.fromkeys(warnings))


def by_content(head: bytes) -> str:
    """What the beginning of a file says that it is, by the names in `NAMES`."""
    for signature, found in SIGNATURES:
        if head.startswith(signature):
            return found
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[4:8] == b"ftyp" and head[8:12] in {b"heic", b"heix", b"mif1", b"msf1", b"avif"}:
        return "heif"
    if head.startswith(b"BM") and head[6:10] == bytes(4):
        return "bmp"
    if b"%PDF-" in head[:PDF_HEADER_WITHIN]:
        return "pdf"
    return _of_text(head)


def _of_text(head: bytes) -> str:
    text = head.replace(b"\0", b"") if head.startswith(UTF_16) else head
    if b"\0" in text:
        return "binary"
    if text.lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n").startswith(b"<?xml"):
        for said, found in XML_KINDS:
            if said in text:
                return found
    if (headers := HEADERS.match(text)) is not None and OF_MIME.search(headers[0]):
        return "mht" if RELATED.search(text.replace(b"\r", b"").partition(b"\n\n")[0]) else "mail"
    return "html" if HTML.search(text) else "text"


def _claims(name: str, media_type: str) -> list[tuple[str, frozenset[str]]]:
    """What name and media type say the file is: in words, and the formats that satisfy it."""
    claims = []
    extension = PurePath(name).suffix.lstrip(".").lower()
    if extension in EXTENSIONS:
        claims.append((f'called "{name}"', EXTENSIONS[extension]))
    declared = media_type.partition(";")[0].strip().lower()
    if declared in MEDIA_TYPES:
        claims.append((f"declared as {declared}", EXTENSIONS[MEDIA_TYPES[declared]]))
    return claims


def pdf_start(path: Path) -> int:
    """Where a PDF begins that libraries do not find; 0 where there is none, and for one near the start."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data.find(b"%PDF-", 0, PDF_HEADER_WITHIN) >= 0:
            return 0
        header = PDF_HEADER.search(data, 0, PDF_SEARCHED)
        return header.start() if header and PDF_OBJECT.search(data, header.end()) else 0


def _has_objects(path: Path) -> bool:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return PDF_OBJECT.search(data) is not None


def _inside_zip(path: Path, *, claimed: list[tuple[str, frozenset[str]]]) -> str:
    found = "zip"
    try:
        with zipfile.ZipFile(path) as file:
            # What is left of a document that was cut off may end with a whole archive that lay inside it.
            whole = min((member.header_offset for member in file.infolist()), default=0) == 0
            if whole:
                archive.check(file)
                found = _main_part(file)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeDecodeError):
        whole = False
    may_be_office = all("zip" in formats or formats & set(MAIN_PARTS.values()) for _, formats in claimed)
    if not whole and may_be_office:
        raise FatalError("corrupt_file", "the file is cut off or damaged: a part of it is missing")
    return found


def _main_part(file: zipfile.ZipFile) -> str:
    names = set(file.namelist())
    for part, found in MAIN_PARTS.items():
        if part in names:
            return found
    types = _beginning(file, CONTENT_TYPES) if CONTENT_TYPES in names else b""
    for pattern, found in MAIN_TYPES:
        if pattern.search(types):
            return found
    said = _beginning(file, "mimetype") if "mimetype" in names else b""
    return next((found for start, found in MIME_TYPES.items() if said.startswith(start)), "zip")


def _beginning(file: zipfile.ZipFile, name: str) -> bytes:
    with file.open(name) as part:
        return part.read(archive.READ_BYTES)


def _around_pdf(path: Path, head: bytes) -> Iterator[str]:
    """What stands before and after a PDF, and whether its end is missing: viewers read it all the same."""
    start = head.find(b"%PDF-")
    before = head if start < 0 else head[:start]
    before = before.strip(BEFORE_PDF)
    if before:
        yield "other bytes stand before the PDF and were left out"
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        end = data.rfind(PDF_END)
        if end < 0:
            yield "the PDF has no end: it may have been cut off, and what stood there is missing then"
        elif len(data) - end - len(PDF_END) > PDF_TRAILER_WITHIN:
            yield "other bytes stand after the PDF and were left out"
