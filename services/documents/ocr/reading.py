"""Text recognition by the tesseract program."""

from __future__ import annotations

import subprocess
from contextlib import nullcontext
from dataclasses import replace
from tempfile import TemporaryFile
from typing import IO, Final

from PIL import Image

from switchyard.services.documents.errors import FatalError, RetryableError
from switchyard.services.documents.ocr import skew
from switchyard.services.documents.ocr.hocr import parse
from switchyard.services.documents.ocr.machine.cores import Cores
from switchyard.services.documents.ocr.machine.parent import die_with_parent
from switchyard.services.documents.ocr.machine.tesseract import Installed, installed
from switchyard.services.documents.ocr.recognised import Recognised

DPI: Final = 300
GOOD_CONFIDENCE: Final = 60.0  # of 100; below it the page may stand on its head
TURNS: Final = (180, 90, 270)
MAX_PIXELS: Final = 40_000_000  # beyond A3 at 300 dpi more pixels do not help
# Ways of tesseract to part a page; to find out how it is turned, it needs data of its own.
WITH_ORIENTATION, AUTOMATIC, LINE = "1", "3", "7"
PAPER: Final = 255
MAX_S: Final = 900.0  # for one image, which takes some seconds, or a minute on a busy machine


class StoppedError(RetryableError):
    """The program took too long."""


class Reading:
    """An image that is being read, by a program that works on while other things are done.

    Args:
        image: in shades of grey.
        languages: by tesseract's names.
        line: whether it is one line of text, upright.
        turns: whether to turn it where it makes no sense; the program itself finds out for whole pages.
        cores: which it may use; as many as there are without.

    Raises:
        FatalError: codes `ocr_unavailable` and `ocr_language_missing`.
    """

    def __init__(
        self,
        image: Image.Image,
        languages: tuple[str, ...],
        *,
        line: bool = False,
        turns: bool = True,
        cores: Cores | None = None,
    ) -> None:
        self._found = _required(languages)
        self._languages = languages
        self._line = line
        self._turns = TURNS if turns and not line else ()
        self._cores = cores
        if image.width * image.height > MAX_PIXELS:
            shrink = (MAX_PIXELS / (image.width * image.height)) ** 0.5
            image.thumbnail((image.width * shrink, image.height * shrink))
        self._image = image
        self._askew = 0.0 if line else skew.angle(image)
        self._run = self._started(self._askew)

    def result(self) -> Recognised:
        """What it says, turned if it makes no sense as it stands.

        Raises:
            RetryableError: code `ocr_failed`.
        """
        try:
            best = self._run.result()
        except StoppedError:
            raise
        except RetryableError:  # which a second run may not meet
            self._run = self._started(self._askew)
            best = self._run.result()
        for turn in self._turns:
            if best.confidence >= GOOD_CONFIDENCE or not best.lines:
                break
            self._run = self._started(turn + self._askew)
            best = max(best, self._run.result(), key=lambda read: read.confidence)
        return best

    def cancel(self) -> None:
        """Stop reading."""
        self._run.cancel()

    def _started(self, turn: float) -> _Run:
        segmentation = (
            LINE if self._line else WITH_ORIENTATION if self._found.finds_orientation else AUTOMATIC
        )
        command = (
            *(self._found.program, "stdin", "stdout", "-l", "+".join(self._languages)),
            *("--dpi", str(DPI), "--psm", segmentation, "hocr"),
        )
        return _Run(command, self._image, turn, self._cores)


class _Run:
    """One run of the program over an image that is turned counterclockwise by some degrees.

    What it reads and writes are files, not pipes, so that nobody must attend to it.
    """

    def __init__(
        self, command: tuple[str, ...], given: Image.Image, turn: float, cores: Cores | None
    ) -> None:
        self._turn = turn
        self._size = given.size
        image = given
        if turn:
            image = given.rotate(turn, expand=True, fillcolor=PAPER, resample=Image.Resampling.BICUBIC)
        self._image = image
        self._output, self._errors = TemporaryFile(), TemporaryFile()  # noqa: SIM115 - closed with the result
        with TemporaryFile() as source:
            image.save(source, "PPM")
            source.seek(0)
            with cores.taken() if cores is not None else nullcontext(()) as held:
                self._process = subprocess.Popen(  # noqa: S603 - found on PATH; the model admits names alone
                    command,
                    stdin=source,
                    stdout=self._output,
                    stderr=self._errors,
                    pass_fds=held,
                    preexec_fn=die_with_parent,  # noqa: PLW1509 - it takes no lock
                )

    def result(self) -> Recognised:
        """Wait for what it says."""
        try:
            status = self._process.wait(MAX_S)
        except subprocess.TimeoutExpired:
            self.cancel()
            raise StoppedError(
                "ocr_failed", f"the OCR program was stopped after {MAX_S:g} s with one page"
            ) from None
        output, errors = _content(self._output), _content(self._errors)
        if status:
            complaint = errors.decode(errors="replace").strip()[-500:]
            if "bad_alloc" in complaint:
                raise MemoryError(complaint)
            raise RetryableError("ocr_failed", f"the OCR program ended with status {status}: {complaint}")
        read = parse(output, self._image)
        return replace(read, given=self._size, turned=read.turned + self._turn)

    def cancel(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.wait()
        self._output.close()
        self._errors.close()


def recognise(
    image: Image.Image,
    languages: tuple[str, ...],
    *,
    line: bool = False,
    turns: bool = True,
    cores: Cores | None = None,
) -> Recognised:
    """Read an image and wait for what it says; see `Reading`."""
    return Reading(image, languages, line=line, turns=turns, cores=cores).result()


def _content(file: IO[bytes]) -> bytes:
    with file:
        file.seek(0)
        return file.read()


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
