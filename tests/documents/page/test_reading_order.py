"""Reading order without a file around it."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from switchyard.services.documents.page import reading_order
from switchyard.services.documents.page.lines import Line

Parts = tuple[list[reading_order._Item], list[reading_order._Item]]


def test_a_page_of_very_many_labels_and_values_is_read_by_rows_at_a_limited_effort(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = []
    for row in range(1_400):
        top = row * 12.0
        lines += [
            Line(f"label {row}", 72, top, 110, top + 10, 10),
            Line(str(row), 300, top, 320, top + 10, 10),
        ]
    looked = 0
    parted = reading_order._parted

    def counted(items: Iterable[reading_order._Item], at: float) -> Parts:
        nonlocal looked
        found = list(items)
        looked += len(found)
        return parted(found, at)

    monkeypatch.setattr(reading_order, "_parted", counted)
    assert reading_order.in_order(lines, [], body=10) == lines
    assert looked <= reading_order.MAX_LOOKS
