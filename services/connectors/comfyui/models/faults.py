"""Why a model file was not fetched."""

from __future__ import annotations


class FetchError(Exception):
    """A fetch has failed.

    Args:
        reason: for people, without address and credentials.
        lasting: whether it is of no use to try again until the catalogue's entry changes.
    """

    def __init__(self, reason: str, *, lasting: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.lasting = lasting


class GoneError(Exception):
    """A model file was taken away for another just now."""
