"""Why a document is not converted."""

from __future__ import annotations


class DocumentError(Exception):
    """A failure with a stable `code` for programs and a message for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class RetryableError(DocumentError):
    """Another attempt may succeed."""


class FatalError(DocumentError):
    """This document cannot be converted as it was asked for."""
