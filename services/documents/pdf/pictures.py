"""The pictures of a PDF's pages as files and as lines of their own in its text."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Final

import pypdfium2 as pdfium
from PIL import Image
from pypdfium2 import raw

from switchyard.services.documents.model.album import MAX_BYTES, MIN_PIXELS, Album, TooLargeError, key_of
from switchyard.services.documents.model.blocks import Block, Box, fractions, turned_back
from switchyard.services.documents.page import assemble
from switchyard.services.documents.page.lines import Body, Line
from switchyard.services.documents.page.running_lines import EDGE, NEAR_PAGES, STEP
from switchyard.services.documents.pdf.drawn.matrices import matrix_of, moved
from switchyard.services.documents.pdf.drawn.objects import Picture
from switchyard.services.documents.pdf.frame import Frame
from switchyard.services.documents.pdf.kept_pictures import KeptPictures
from switchyard.services.documents.pdf.page_model import PageText, Shown
from switchyard.services.documents.pdf.regions import part
from switchyard.services.documents.pdf.text_in_pictures import covered, is_paper

MAX_PICTURES: Final = 200  # a page
MAX_LOOKED_PIXELS: Final = 400_000_000  # a page, of all its pictures
MIN_POINTS: Final = 12.0  # each way, as shown
BACKGROUND: Final = 0.9  # of the page
UNDER_TEXT: Final = 0.4  # of a picture: it is a scan of that text, or what it is printed on
MAX_PIXELS: Final = 40_000_000
LOOK: Final = (48, 48)  # pixels, enough to distinguish pictures that share their data but not their masks
JPEG: Final = ["DCTDecode"]
AS_IS: Final = {"L", "RGB"}  # of JPEG; programs differ in what they take other colours for
GREYS: Final = {raw.FPDF_COLORSPACE_DEVICEGRAY, raw.FPDF_COLORSPACE_CALGRAY}
Place = tuple[str, int, int]
# How a picture is turned whose left edge (if swapped, top edge) is on the other side, and whose top edge is.
TURNS: Final[dict[tuple[bool, bool, bool], Image.Transpose | None]] = {
    (False, False, False): None,
    (False, True, False): Image.Transpose.FLIP_LEFT_RIGHT,
    (False, False, True): Image.Transpose.FLIP_TOP_BOTTOM,
    (False, True, True): Image.Transpose.ROTATE_180,
    (True, False, False): Image.Transpose.TRANSPOSE,
    (True, False, True): Image.Transpose.ROTATE_270,
    (True, True, False): Image.Transpose.ROTATE_90,
    (True, True, True): Image.Transpose.TRANSVERSE,
}


class Pictures:
    """Saves the pictures of one document, page by page.

    Args:
        album: which they go to.
        load: the data of a picture by its key; may raise `TooLargeError` and `ValueError`.
        body: the size of plain text.
    """

    def __init__(self, album: Album, load: Callable[[bytes], bytes], *, body: float) -> None:
        self._album = album
        self._load = load
        self._body = body
        self._behind: deque[set[Place]] = deque(maxlen=NEAR_PAGES)  # what stood at the edges of pages

    def shown(self, pictures: Sequence[Shown], text: PageText, number: int) -> list[Line]:
        """Save pictures, and say where each stands; a logo that runs through the pages stands on the first.

        Args:
            pictures: those found on the page.
            text: the page's.
            number: the page's, from 1.
        """
        size = text.size
        found: list[Line] = []
        running: set[Place] = set()
        for picture in pictures:
            box = picture.box
            if not picture.key:
                self._album.leave_out()
                continue
            name = self._album.keyed(
                picture.key,
                partial(self._load, picture.key),
                page=number,
                box=turned_back(fractions(box, size), text.turned),
            )
            place = (name, round(box[0] / STEP), round(box[1] / STEP))
            if name and not self._runs(place):
                found.append(Line("", *box, self._body, image=name))
            if name and (box[3] < size[1] * EDGE or box[1] > size[1] * (1 - EDGE)):
                running.add(place)
        self._behind.append(running)
        return found

    def beside_scans(self, pictures: Sequence[Shown], text: PageText, number: int) -> tuple[Block, ...]:
        """Save the pictures of a page that is read by OCR; see `shown`."""
        found = self.shown(pictures, text, number)
        return assemble.arrange(found, body=Body(self._body), size=text.size)

    def _runs(self, place: Place) -> bool:
        return any(place in places for places in self._behind)


class PictureFinder:
    """Finds the pictures of pages that are worth saving, and keeps each once.

    Args:
        kept: takes their data.
    """

    def __init__(self, kept: KeptPictures) -> None:
        self._kept = kept

    def found(
        self, pictures: Sequence[Picture], page: pdfium.PdfPage, lines: Sequence[Line]
    ) -> tuple[Shown, ...]:
        """The pictures of a page that its text does not cover.

        Args:
            pictures: with their boxes, in points from the top left.
            page: which they are on.
            lines: those of the text layer.
        """
        size, frame = page.get_size(), Frame.of(page)
        found: list[Shown] = []
        pixels = 0
        for at, (picture, box) in enumerate(_worth(pictures, size)):
            width, height = picture.get_px_size()
            pixels += min(width * height, MAX_PIXELS)
            if at >= MAX_PICTURES or pixels > MAX_LOOKED_PIXELS:
                found.append(Shown(b"", box))
            elif min(width, height) >= MIN_PIXELS and covered(box, lines) <= UNDER_TEXT:
                found.append(Shown(self._key(picture, _turn(picture, frame)), box))
        return tuple(found)

    def beside_scans(self, pictures: Sequence[Picture], page: pdfium.PdfPage) -> tuple[Shown, ...]:
        """The pictures of a page that is read by OCR, without those that show paper."""
        photos = [
            (picture, box)
            for picture, box in islice(_worth(pictures, page.get_size()), MAX_PICTURES)
            if not is_paper(part(page, box, margin=0.0)[0])
        ]
        return self.found(photos, page, ())

    def _key(self, picture: pdfium.PdfImage, turn: Image.Transpose | None) -> bytes:
        """What a picture is known by, whose data is kept then."""
        width, height = picture.get_px_size()
        size_bytes = raw.FPDFImageObj_GetImageDataRaw(picture.raw, None, 0)
        look: Image.Image | None = None
        if width * height > MAX_PIXELS or size_bytes > MAX_BYTES:
            identity = b"%d %d %d" % (width, height, size_bytes)
        else:
            with suppress(ValueError):
                look = _drawn(picture, LOOK)
            identity = b"".join(
                (b"%d" % (-1 if turn is None else turn), look.tobytes() if look else b"", picture.get_data())
            )

        def data() -> bytes:
            if width * height > MAX_PIXELS or size_bytes > MAX_BYTES:
                raise TooLargeError
            if look is None:
                raise ValueError("the picture cannot be drawn")
            return _data(picture, turn, opaque=look.getextrema()[-1] == (255, 255))

        key = key_of(identity)
        self._kept.keep(key, data)
        return key


def _worth(pictures: Sequence[Picture], size: tuple[float, float]) -> Iterator[Picture]:
    """The pictures that are more than a hairline, and not what a page is printed on, be it in strips."""
    boxes = {box for _, box in pictures}
    columns: dict[tuple[int, int], float] = {}
    for box in boxes:
        column = _column(box)
        columns[column] = columns.get(column, 0.0) + (box[2] - box[0]) * (box[3] - box[1])
    for picture, box in pictures:
        if (
            min(box[2] - box[0], box[3] - box[1]) >= MIN_POINTS
            and columns[_column(box)] <= size[0] * size[1] * BACKGROUND
        ):
            yield picture, box


def _column(box: Box) -> tuple[int, int]:
    return round(box[0]), round(box[2])


def _turn(picture: pdfium.PdfImage, frame: Frame) -> Image.Transpose | None:
    """How a picture has to be turned to be seen as on the page, to the quarter of a turn."""
    matrix = matrix_of(picture)
    (x, y), (right_x, right_y), (up_x, up_y) = (
        frame.box(*point, *point)[:2]
        for point in (moved(corner, matrix) for corner in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0)))
    )
    if abs(right_x - x) >= abs(right_y - y):
        return TURNS[False, right_x < x, up_y > y]
    return TURNS[True, right_y < y, up_x > x]


def _data(picture: pdfium.PdfImage, turn: Image.Transpose | None, *, opaque: bool) -> bytes:
    """A picture as JPEG where it is one that looks as it does on the page, else as PNG.

    Raises:
        ValueError: it is damaged.
    """
    if opaque and turn is None and picture.get_filters(skip_simple=True) == JPEG:
        data = bytes(picture.get_data(decode_simple=True))
        if _is_plain_jpeg(data):
            return data
    image = _drawn(picture, picture.get_px_size())
    if image.getextrema()[-1] == (0, 0):
        raise ValueError("nothing of the picture can be seen")
    if opaque:
        metadata = picture.get_metadata()
        grey = metadata.colorspace in GREYS
        image = image.convert("1" if grey and metadata.bits_per_pixel == 1 else "L" if grey else "RGB")
    if turn is not None:
        image = image.transpose(turn)
    made = io.BytesIO()
    image.save(made, "PNG", compress_level=3)
    return made.getvalue()


def _is_plain_jpeg(data: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            return image.mode in AS_IS
    except (OSError, ValueError, Image.DecompressionBombError):
        return False


def _drawn(picture: pdfium.PdfImage, size: tuple[int, int]) -> Image.Image:
    """A picture with its masks and in its colours, upright and of some size in pixels, with alpha.

    Raises:
        ValueError: it is damaged.
    """
    matrix = picture.get_matrix()
    picture.set_matrix(pdfium.PdfMatrix(size[0], 0, 0, size[1], 0, 0))
    try:
        image: Image.Image = picture.get_bitmap(render=True, scale_to_original=False).to_pil()
    except pdfium.PdfiumError as error:
        raise ValueError("the picture cannot be drawn") from error
    finally:
        picture.set_matrix(matrix)
    return image
