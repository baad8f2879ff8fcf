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

from services.connectors.convert import archive
from services.connectors.convert.document import Format
from services.connectors.protocol import FatalError

HEAD_BYTES: Final = 4096
PDF_HEADER_WITHIN: Final = 1024  # ISO 32000-1, annex H.3.4.1: viewers accept the header in the first 1024
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
    "binary": "of no known format",
}  # fmt: skip

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
    **dict.fromkeys(("doc", "xls", "ppt"), frozenset({"ole"})),
    **dict.fromkeys(("odt", "ods", "odp"), frozenset({"odf"})),
    "rtf": frozenset({"rtf"}),
    "eml": frozenset({"mail"}),
    **dict.fromkeys(("mht", "mhtml"), frozenset({"mht", "mail"})),
    "xlsb": frozenset({"xlsb"}),
    "epub": frozenset({"epub"}),
    "zip": frozenset({"zip", "docx", "pptx", "xlsx", "xlsb", "odf", "epub"}),
    "gif": frozenset({"gif"}),
    "webp": frozenset({"webp"}),
    **dict.fromkeys(("txt", "md", "csv", "json", "xml"), frozenset({"text", "html"})),
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
)
MAIN_PARTS: Final = {
    "word/document.xml": "docx", "ppt/presentation.xml": "pptx", "xl/workbook.xml": "xlsx",
    "xl/workbook.bin": "xlsb",
}  # fmt: skip
# Some programs name the main part otherwise and tell it by its type; templates have types of their own.
CONTENT_TYPES: Final = "[Content_Types].xml"
MAIN_TYPES: Final = (
    (re.compile(rb"wordprocessingml\.(document|template)\.main|ms-word\.\w+\.macroEnabled"), "docx"),
    (re.compile(rb"presentationml\.(presentation|slideshow|template)\.main"), "pptx"),
    (re.compile(rb"spreadsheetml\.(sheet|template)\.main|ms-excel\.\w+\.macroEnabled\.main"), "xlsx"),
)
# What other formats that are archives say of themselves in a member called `mimetype`.
MIME_TYPES: Final = {b"application/vnd.oasis.opendocument": "odf", b"application/epub": "epub"}
ENCRYPTED_PACKAGE: Final = "EncryptedPackage".encode("utf-16-le")  # [MS-OFFCRYPTO] 2.3.4.4
HTML: Final = re.compile(
    rb"<(!doctype\s+html|html|head|body|title|meta|div|p|h[1-6]|table|ul|ol|article|section|main|span|br)\b",
    re.IGNORECASE,
)

# What programs open under another name: those that the name is for, and what they find.
IMAGES: Final = frozenset({"png", "jpeg", "tiff", "gif", "webp"})
OPENED: Final = (
    (IMAGES, IMAGES),
    (frozenset({"ole", "rtf"}), frozenset({"docx", "pptx", "xlsx", "html", "rtf"})),
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
    if found == "ole" and _contains(path, ENCRYPTED_PACKAGE):
        raise FatalError("encrypted_file", "the document is protected by a password")
    if found == "zip":
        found = _inside_zip(path, claimed=claims)
    if found == "text" and any(formats == {"html"} for _, formats in claims) and TAG.search(head):
        found = "html"
    known = next((one for one in FORMATS if one == found), None)
    warnings = []
    for claim, formats in claims:
        if found in formats:
            continue
        told = f"the file is {claim}, but its content is {NAMES[found]}"
        if known is None or not any(formats <= named and found in opened for named, opened in OPENED):
            raise FatalError("mislabelled_file", told)
        warnings.append(f"{told}; it was read as that")
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
    if b"%PDF-" in head[:PDF_HEADER_WITHIN]:
        return "pdf"
    text = head.replace(b"\0", b"") if head.startswith((b"\xff\xfe", b"\xfe\xff")) else head
    if b"\0" in text:
        return "binary"
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


def _contains(path: Path, wanted: bytes) -> bool:
    """Whether the bytes occur near the start or the end, where an OLE file keeps its directory."""
    reach = 1024 * 1024
    with path.open("rb") as file:
        start = file.read(reach)
        file.seek(max(0, path.stat().st_size - reach))
        return wanted in start or wanted in file.read(reach)


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
    before = head[: head.find(b"%PDF-")].strip(b"\xef\xbb\xbf\xfe\xff\0 \t\r\n\f")
    if before:
        yield "other bytes stand before the PDF and were left out"
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        end = data.rfind(PDF_END)
        if end < 0:
            yield "the PDF has no end: it may have been cut off, and what stood there is missing then"
        elif len(data) - end - len(PDF_END) > PDF_TRAILER_WITHIN:
            yield "other bytes stand after the PDF and were left out"
