"""Cells by the names that formulas have for them."""

from __future__ import annotations


def place(reference: str) -> tuple[int, int] | None:
    """Row and column of a cell, from 0; None for what names none."""
    letters = reference.rstrip("0123456789")
    number = reference[len(letters) :]
    if not number or not letters.isascii() or not letters.isalpha() or len(letters) > 3 or len(number) > 7:
        return None
    column = 0
    for letter in letters.upper():
        column = column * 26 + ord(letter) - ord("A") + 1
    return int(number) - 1, column - 1
