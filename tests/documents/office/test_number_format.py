"""Values of a spreadsheet look as its number formats say."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from switchyard.services.documents.office.sheets.number_format import shown

ACCOUNTING = '_("$"* #,##0.00_);_("$"* (#,##0.00);_("$"* "-"??_);_(@_)'
MOMENT = dt.datetime(2026, 3, 4, 15, 6, 7)  # noqa: DTZ001 - spreadsheets have no time zones


@pytest.mark.parametrize(
    ("value", "number_format", "text"),
    [
        (0.5, "0%", "50%"),
        (0.12345, "0.00%", "12.35%"),
        (1234567.891, "#,##0.00", "1,234,567.89"),
        (2.5, "0", "3"),
        (-5, "#,##0.00;(#,##0.00)", "(5.00)"),
        (-5.5, "#,##0.00;[Red]-#,##0.00", "-5.50"),
        (12, '"$"#,##0.00', "$12.00"),
        (12.5, "#,##0.00\\ [$€-407]", "12.50 €"),
        (1234.5, ACCOUNTING, "$1,234.50"),
        (-1234.5, ACCOUNTING, "$(1,234.50)"),
        (0, ACCOUNTING, "$-"),
        (12345.678, "0.00E+00", "1.23E+04"),
        (1_500_000, '0.0,,"M"', "1.5M"),
        (7, "000", "007"),
        (2, "0.0#", "2.0"),
        (-0.001, "0.00", "0.00"),
        (42, '"Nr. "0', "Nr. 42"),
        (0.1 + 0.2, "General", "0.3"),
        (1902, "General", "1902"),
        (True, "General", "TRUE"),
        ("text", "0.00", "text"),
        (None, "General", ""),
        (1.5, "# ?/?", "1.5"),
        (0.5, "[>1]0;0.0", "0.5"),
        (1e300, "0.00", "1e+300"),
        (float("nan"), "0.0", "NaN"),
        (5, "0" * 1000, "5"),
        (MOMENT, "yyyy-mm-dd hh:mm:ss", "2026-03-04 15:06:07"),
        (MOMENT, "d/m/yyyy", "4/3/2026"),
        (MOMENT, "dd.mm.yyyy", "04.03.2026"),
        (MOMENT, "[$-409]mmmm d, yyyy;@", "March 4, 2026"),
        (MOMENT, "dddd, d-mmm-yy", "Wednesday, 4-Mar-26"),
        (MOMENT, "h:mm AM/PM", "3:06 PM"),
        (MOMENT, "General", "2026-03-04 15:06:07"),
        (dt.datetime(2026, 3, 4), "mm-dd-yy", "2026-03-04"),  # noqa: DTZ001 - as above
        (dt.date(2026, 3, 4), "d mmm yyyy", "4 Mar 2026"),
        (dt.time(3, 4), "h:mm", "3:04"),
        (dt.timedelta(hours=30, minutes=5), "[h]:mm", "30:05"),
        (dt.timedelta(hours=30, minutes=5), "[h]:mm:ss", "30:05:00"),
    ],
)
def test_value_is_shown_by_its_format(value: Any, number_format: str, text: str) -> None:
    assert shown(value, number_format) == text
