"""Text recognition by the tesseract program."""

from __future__ import annotations

import io
import subprocess
from dataclasses import replace
from typing import Final

from PIL import Image

from services.connectors.convert import skew
from services.connectors.convert.hocr import parse
from services.connectors.convert.recognised import Recognised
from services.connectors.convert.tesseract import Installed, installed
from services.connectors.protocol import FatalError, RetryableError
from services.worker.child import die_with_parent

DPI: Final = 300
GOOD_CONFIDENCE: Final = 60.0  # of 100; below it the page may stand on its head
TURNS: Final = (180, 90, 270)
MAX_PIXELS: Final = 40_000_000  # beyond A3 at 300 dpi more pixels do not help
# Ways of tesseract to part a page; to find out how it is turned, it needs data of its own.
WITH_ORIENTATION, AUTOMATIC, LINE = "1", "3", "7"
PAPER: Final = 255


def recognise(image: Image.Image, languages: tuple[str, ...], *, line: bool = False) -> Recognised:
    """Read the text of an image, turned if it makes no sense as it stands.

    Args:
        image: in shades of grey.
        languages: by tesseract's names.
        line: whether it is one line of text, upright.

    Raises:
        FatalError: codes `ocr_unavailable` and `ocr_language_missing`.
        RetryableError: code `ocr_failed`.
    """
    found = _required(languages)
    if image.width * image.height > MAX_PIXELS:
        shrink = (MAX_PIXELS / (image.width * image.height)) ** 0.5
        image.thumbnail((image.width * shrink, image.height * shrink))
    askew = 0.0 if line else skew.angle(image)
    best = _read(found, image, languages, turn=askew, line=line)
    for turn in TURNS:
        if line or best.confidence >= GOOD_CONFIDENCE or not best.lines:
            break
        turned = _read(found, image, languages, turn=turn + askew)
        best = max(best, turned, key=lambda read: read.confidence)
    return best


def _required(languages: tuple[str, ...]) -> Installed:
    found = installed()
    if found is None:
        raise FatalError(
            "ocr_unavailable",
            "the document must be read by OCR, and no OCR program is installed on this worker",
        )
    if missing := [language for language in languages if language not in found.languages]:
        raise FatalError(
            "ocr_language_missing",
            f"OCR cannot read {', '.join(missing)} on this worker; it knows {', '.join(found.languages)}",
        )
    return found


def _read(
    found: Installed, given: Image.Image, languages: tuple[str, ...], *, turn: float, line: bool = False
) -> Recognised:
    image = given
    if turn:
        image = given.rotate(turn, expand=True, fillcolor=PAPER, resample=Image.Resampling.BICUBIC)
    data = io.BytesIO()
    image.save(data, "PNG", compress_level=1)
    segmentation = LINE if line else WITH_ORIENTATION if found.finds_orientation else AUTOMATIC
    done = subprocess.run(  # noqa: S603 - found on PATH; the model admits names of languages only
        [
            *(found.program, "stdin", "stdout", "-l", "+".join(languages)),
            *("--dpi", str(DPI), "--psm", segmentation, "hocr"),
        ],
        input=data.getvalue(),
        capture_output=True,
        check=False,
        preexec_fn=die_with_parent,
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()[-500:]
        if "bad_alloc" in said:
            raise MemoryError(said)
        raise RetryableError("ocr_failed", f"the OCR program ended with status {done.returncode}: {said}")
    read = parse(done.stdout)
    return replace(read, given=given.size, turned=read.turned + turn)
