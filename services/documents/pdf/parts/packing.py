"""Numbers and texts in the order in which they are written, as few bytes and back.

A pack is a list of integers, a row of floats and a row of texts, each in the order in which it was put in;
a text that comes again is written once. All that is read was written, and in that order.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, pairwise
from sys import byteorder
from typing import Any, Final, TypeVar

import msgspec

MAX_BYTES: Final = 256 * 1024 * 1024  # of one pack, before it is compressed
LEVEL: Final = 1  # of zlib: more takes longer than the bytes are worth
INTS, FLOATS, LENGTHS = "i", "d", "I"

T = TypeVar("T")


class PackError(ValueError):
    """Bytes are no pack, or hold something else than is asked for."""


class _Form(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    ints: bytes
    floats: bytes
    lengths: bytes
    texts: bytes


class Packer:
    """Takes in what is to be packed."""

    def __init__(self) -> None:
        self._ints: array[int] = array(INTS)
        self._floats: array[float] = array(FLOATS)
        self._texts: dict[str, int] = {}
        self.integer: Callable[[int], None] = self._ints.append

    def flags(self, *flags: bool) -> None:
        """Some truths, as one integer."""
        self._ints.append(sum(flag << at for at, flag in enumerate(flags)))

    def text(self, text: str) -> None:
        """A text of any characters."""
        self._ints.append(self._texts.setdefault(text, len(self._texts)))

    def floats(self, *numbers: float) -> None:
        """Some floats, bit by bit as they are."""
        self._floats.extend(numbers)

    def data(self, data: bytes) -> None:
        """A few bytes."""
        self.text(data.hex())

    def many(self, found: Sequence[T], each: Callable[[T], None]) -> None:
        """So many things, each packed by a function."""
        self._ints.append(len(found))
        for one in found:
            each(one)

    def packed(self) -> bytes:
        """All of it.

        Raises:
            PackError: it is too much.
        """
        texts = "".join(self._texts).encode("utf-8", "surrogatepass")
        form = _Form(
            _bytes(self._ints), _bytes(self._floats), _bytes(array(LENGTHS, map(len, self._texts))), texts
        )
        made = msgspec.msgpack.encode(form)
        if len(made) > MAX_BYTES:
            raise PackError(f"{len(made)} bytes are too many: at most {MAX_BYTES} are packed at once")
        return zlib.compress(made, LEVEL)


class Unpacker:
    """Gives back what was packed, in the order in which it was.

    Args:
        packed: the bytes.

    Raises:
        PackError: they are no pack, or hold more than may be.
    """

    def __init__(self, packed: bytes) -> None:
        try:
            decompressor = zlib.decompressobj()
            made = decompressor.decompress(packed, MAX_BYTES)
            if not decompressor.eof or decompressor.unused_data:
                raise PackError("the bytes are cut off, or more than may be")
            form = msgspec.msgpack.decode(made, type=_Form)
            texts = form.texts.decode("utf-8", "surrogatepass")
            lengths: array[int] = _array(LENGTHS, form.lengths)
            ints: array[int] = _array(INTS, form.ints)
            floats: array[float] = _array(FLOATS, form.floats)
        except (zlib.error, msgspec.MsgspecError, UnicodeError) as error:
            raise PackError(f"the bytes are damaged ({error})") from error
        if sum(lengths) != len(texts):
            raise PackError("the texts are not as long as they should be")
        self._texts: list[str] = [texts[start:end] for start, end in pairwise(accumulate(lengths, initial=0))]
        self._ints, self._floats = iter(ints), iter(floats)
        self._room = MAX_BYTES  # for texts, which may be asked for again and again

    def integer(self) -> int:
        """The next integer."""
        return self._next(self._ints)

    def flags(self, count: int) -> list[bool]:
        """So many truths."""
        number = self._next(self._ints)
        if not 0 <= number < 1 << count:
            raise PackError(f"{number} does not stand for {count} truths")
        return [bool(number >> at & 1) for at in range(count)]

    def text(self) -> str:
        """The next text."""
        number = self._next(self._ints)
        if not 0 <= number < len(self._texts):
            raise PackError(f"there is no text {number}")
        text = self._texts[number]
        self._room -= len(text)
        if self._room < 0:
            raise PackError("the texts are more than may be")
        return text

    def float(self) -> float:
        """The next float."""
        return self._next(self._floats)

    def data(self) -> bytes:
        """The next bytes."""
        try:
            return bytes.fromhex(self.text())
        except ValueError as error:
            raise PackError("expected bytes") from error

    def many(self, each: Callable[[], T]) -> tuple[T, ...]:
        """So many things, each unpacked by a function that takes something out."""
        return tuple([each() for _ in range(self._next(self._ints))])

    def end(self) -> None:
        """Nothing is left.

        Raises:
            PackError: something is.
        """
        if next(self._ints, None) is not None or next(self._floats, None) is not None:
            raise PackError("more was packed than is asked for")

    def _next(self, found: Iterator[T]) -> T:
        try:
            return next(found)
        except StopIteration:
            raise PackError("less was packed than is asked for") from None


def _bytes(numbers: array[Any]) -> bytes:
    if byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def _array(form: str, data: bytes) -> array[Any]:
    found: array[Any] = array(form)
    if len(data) % found.itemsize:
        raise PackError("a row of numbers is cut off")
    found.frombytes(data)
    if byteorder == "big":
        found.byteswap()
    return found
