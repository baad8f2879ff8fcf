"""OCR uses all processors for one document, and no more of them for many."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pypdfium2 as pdfium
import pytest

from switchyard.services.connectors.protocol import RetryableError
from switchyard.services.documents.model.document import Options, Page
from switchyard.services.documents.ocr.ahead import Pending, ahead, page_of
from switchyard.services.documents.ocr.machine.cores import Cores, count
from switchyard.services.documents.ocr.reading import Reading
from switchyard.services.documents.pdf import read
from tests.documents.corpus import DOCUMENTS, needs_ocr

TRY = """
import fcntl, os, sys
free = 0
for name in sys.argv[1:]:
    descriptor = os.open(name, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        free += 1
    except BlockingIOError:
        pass
print(free)
"""


def free(directory: Path) -> int:
    """How many processors another process could have."""
    names = [str(path) for path in sorted(directory.iterdir())]
    done = subprocess.run([sys.executable, "-c", TRY, *names], capture_output=True, check=True, text=True)
    return int(done.stdout)


def test_a_program_holds_its_processor_until_it_ends(tmp_path: Path) -> None:
    cores = Cores(tmp_path)
    with ExitStack() as held:
        for _ in range(count()):
            held.enter_context(cores.taken())
    before = free(tmp_path)
    with cores.taken() as held_by_it:
        program = subprocess.Popen(
            [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=held_by_it
        )
    assert before == count()
    assert free(tmp_path) == count() - 1
    program.kill()
    program.wait()
    if program.stdin is not None:
        program.stdin.close()
    assert free(tmp_path) == count()


HOLD = """
import fcntl, os, sys
descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(descriptor, fcntl.LOCK_EX)
print(flush=True)
input()
"""


@contextmanager
def held_by_others(directory: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """All processors, each by a program of its own."""
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", HOLD, str(directory / f"core-{number}")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for number in range(count())
    ]
    try:
        for program in programs:
            assert program.stdout is not None
            program.stdout.readline()
        yield programs
    finally:
        for program in programs:
            program.kill()
            program.communicate()


@pytest.mark.parametrize("number", range(min(count(), 8)))
def test_whoever_waits_gets_the_processor_that_is_free_first(tmp_path: Path, number: int) -> None:
    with held_by_others(tmp_path) as programs:
        cores, took = Cores(tmp_path), threading.Event()

        def take() -> None:
            with cores.taken():
                took.set()

        waiter = threading.Thread(target=take)
        waiter.start()
        assert not took.wait(0.2)
        programs[number].kill()
        assert took.wait(20)
        waiter.join()
        programs[number].wait()
        assert [program.poll() is None for program in programs].count(True) == count() - 1
    assert free(tmp_path) == count()  # also those that nobody waits for any more


@needs_ocr
def test_pages_that_are_read_at_once_come_in_their_order(tmp_path: Path) -> None:
    names = ("ocr_test.pdf", "invoice.pdf", "invoice_scan.pdf", "ocr_test.pdf")
    with pdfium.PdfDocument.new() as made:
        for name in names:
            with pdfium.PdfDocument(DOCUMENTS / name) as source:
                made.import_pages(source)
        made.save(tmp_path / "made.pdf")
    options = Options("auto", ("eng",), 10, Cores(tmp_path / "."))
    pages = list(read.read(tmp_path / "made.pdf", options).pages)
    assert [page.by_ocr for page in pages] == [True, False, True, True]
    assert pages[0].markdown == pages[3].markdown
    assert "Invoice" in pages[1].markdown
    assert "Invoice" in pages[2].markdown


@needs_ocr
def test_what_is_still_being_read_is_stopped_when_a_page_cannot_be_made() -> None:
    started: list[Reading] = []

    def pages() -> Iterator[Page | Pending[Page]]:
        for _ in range(count()):
            with pdfium.PdfDocument(DOCUMENTS / "invoice_scan.pdf") as source:
                image = source[0].render(scale=4, grayscale=True).to_pil()
            started.append(Reading(image, ("eng",)))
            yield Pending(started[-1], page_of)
        raise RetryableError("ocr_failed", "for the test")

    with pytest.raises(RetryableError):
        list(ahead(pages()))
    assert all(reading._run._process.returncode is not None for reading in started)


def test_pages_without_ocr_come_as_they_are_made() -> None:
    made: list[int] = []

    def pages() -> Iterator[Page | Pending[Page]]:
        for number in range(3):
            made.append(number)
            yield Page(str(number))

    first = next(iter(ahead(pages())))
    assert (first.markdown, made) == ("0", [0])
