"""The data of pictures between the reading of a page and the writing of the document, as files."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal

from switchyard.services.documents.model.album import (
    MAX_BYTES,
    MAX_IMAGES,
    MAX_KNOWN,
    MAX_TOTAL_BYTES,
    TooLargeError,
)

Outcome = Literal["kept", "too_large", "damaged"]


class KeptPictures:
    """Keeps the data of pictures, each once, as much as a document may have.

    Args:
        directory: for their files, which is made with the first.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known: dict[bytes, Outcome] = {}
        self._count = self._bytes = 0

    def keep(self, key: bytes, data: Callable[[], bytes]) -> None:
        """Keep a picture, unless it is known.

        Args:
            key: what it is known by.
            data: reads it; may raise `TooLargeError`, and `ValueError` for one that is damaged.
        """
        if key in self._known or len(self._known) >= MAX_KNOWN:
            return
        try:
            self.add(key, "kept", b"" if self._count >= MAX_IMAGES else data())
        except TooLargeError:
            self.add(key, "too_large")
        except ValueError:
            self.add(key, "damaged")

    def add(self, key: bytes, outcome: Outcome, data: bytes = b"") -> None:
        """Keep what is known of a picture."""
        if outcome == "kept" and (
            self._count >= MAX_IMAGES or len(data) > MAX_BYTES or self._bytes + len(data) > MAX_TOTAL_BYTES
        ):
            outcome = "too_large"
        self._known[key] = outcome
        if outcome == "kept":
            self._directory.mkdir(exist_ok=True)
            self._path(key).write_bytes(data)
            self._count += 1
            self._bytes += len(data)

    def outcome(self, key: bytes) -> Outcome:
        """What is known of a picture."""
        return self._known.get(key, "too_large")

    def load(self, key: bytes) -> bytes:
        """The data of a picture, which is given up with that.

        Raises:
            TooLargeError: it is too large, or there are too many.
            ValueError: it is damaged.
        """
        match self.outcome(key):
            case "kept":
                data = self._path(key).read_bytes()
                with suppress(FileNotFoundError):
                    self._path(key).unlink()
                return data
            case "damaged":
                raise ValueError("the picture is damaged")
            case "too_large":
                raise TooLargeError

    def _path(self, key: bytes) -> Path:
        return self._directory / key.hex()
