"""Values of a spreadsheet as their number format shows them (ECMA-376 part 1, 18.8.31)."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, Final

GENERAL: Final = "General"
SHORT_DATE: Final = "mm-dd-yy"  # the built-in format 14, which every country shows in its own way
MAX_FORMAT_CHARS: Final = 255  # as many as a workbook may have
MAX_PLACES: Final = 30
TOKEN: Final = re.compile(
    r'"(?P<quoted>[^"]*)"|\\(?P<escaped>.)|\[(?P<bracket>[^\]]*)\]|_.|\*.'
    r"|(?P<general>General)|(?P<ampm>AM/PM|A/P)|(?P<date>y+|m+|d+|h+|s+(?:[.,]0+)?|e+(?![+-]))|(?P<digits>[0#?][0#?,.]*|\.[0#?]+)"
    r"|(?P<power>E[+-]0+)|(?P<other>.)",
    re.IGNORECASE | re.DOTALL,
)
CURRENCY: Final = re.compile(r"\$([^-]*)")
ELAPSED: Final = re.compile(r"h+|m+|s+", re.IGNORECASE)
CONDITION: Final = re.compile(r"[<>=]")


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str


def shown(value: Any, number_format: str | None) -> str:
    """A cell's value as its reader sees it; a format that is not understood shows the bare value."""
    match value:
        case None:
            return ""
        case bool():
            return "TRUE" if value else "FALSE"
        case str():
            return value
        case int() | float():
            return _number(value, number_format or GENERAL)
        case dt.datetime() | dt.date() | dt.time() | dt.timedelta():
            return _moment(value, number_format or GENERAL)
        case _:
            return str(value)


def _bare(value: float) -> str:
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def _number(value: float, number_format: str) -> str:
    if number_format in {GENERAL, "@", "0"} and isinstance(value, int):
        return str(value)
    sections = _sections(number_format)
    if number_format == GENERAL or not sections:
        return _bare(value)
    section, absolute = _section_for(value, sections)
    places = [token for token in section if token.kind == "digits" and token.text.strip("?")]
    if any(token.kind in {"date", "bracket"} for token in section) or any(t.text == "/" for t in section):
        return _bare(value)
    if not places:
        text = "".join(_literal(token) for token in section)
        general = not text.strip() or len(sections) == 1 or any(token.kind == "general" for token in section)
        return _bare(value) if general else text.strip()
    try:
        return _filled(Decimal(repr(abs(value) if absolute else value)), section, places)
    except (InvalidOperation, ValueError):
        return _bare(value)


def _section_for(value: float, sections: list[list[_Token]]) -> tuple[list[_Token], bool]:
    """The part of the format for a value, and whether it shows the sign by itself."""
    if value < 0 and len(sections) > 1:
        return sections[1], True
    if value == 0 and len(sections) > 2:
        return sections[2], False
    return sections[0], False


def _filled(value: Decimal, section: list[_Token], places: list[_Token]) -> str:
    pattern = "".join(token.text for token in places)
    scale = len(pattern) - len(pattern.rstrip(","))
    whole, _, fraction = pattern.rstrip(",").partition(".")
    value = value.scaleb(-3 * scale)
    percents = sum(token.text.count("%") for token in section if token.kind == "other")
    value = value.scaleb(2 * percents)
    power = next((token.text for token in section if token.kind == "power"), None)
    number = _fixed(value, whole, fraction) if power is None else _scientific(value, fraction, power)
    sign, number = ("-", number[1:]) if number.startswith("-") else ("", number)
    written, put = "", False
    for token in section:
        if token.kind in {"digits", "power"}:
            written += "" if put or token not in places else number
            put = put or token in places
        else:
            written += _literal(token)
    return (sign + written).strip()


def _fixed(value: Decimal, whole: str, fraction: str) -> str:
    wanted = min(sum(character in "0#?" for character in fraction), MAX_PLACES)
    needed = min(fraction.count("0"), wanted)
    text = f"{value.quantize(Decimal(1).scaleb(-wanted), ROUND_HALF_UP):f}"
    sign, text = ("-", text[1:]) if text.startswith("-") else ("", text)
    units, _, rest = text.partition(".")
    rest = rest[:needed] + rest[needed:].rstrip("0")
    units = units.lstrip("0").rjust(min(whole.count("0"), MAX_PLACES), "0")
    if "," in whole:
        units = re.sub(r"(?<=\d)(?=(\d{3})+$)", ",", units)
    text = f"{units}.{rest}" if rest else units
    if not text.strip("0.,"):
        sign = ""
    return sign + (text or "0")


def _scientific(value: Decimal, fraction: str, power: str) -> str:
    mantissa, _, exponent = f"{value:.{min(len(fraction), MAX_PLACES)}e}".partition("e")
    sign = exponent[0] if exponent[0] == "-" or "+" in power else ""
    return f"{mantissa}E{sign}{exponent[1:].lstrip('0').rjust(power.count('0'), '0')}"


def _literal(token: _Token) -> str:
    return token.text if token.kind in {"text", "other"} else ""


@lru_cache(maxsize=1024)
def _sections(number_format: str) -> list[list[_Token]]:
    """The format in its parts for positive numbers, negative ones, zero and text.

    None where it has conditions, which are rare, or is longer than a workbook may have it.
    """
    if len(number_format) > MAX_FORMAT_CHARS:
        return []
    sections: list[list[_Token]] = [[]]
    for found in TOKEN.finditer(number_format):
        kind = found.lastgroup or "blank"
        text = found[kind] if found.lastgroup else ""
        if kind == "other" and text == ";":
            sections.append([])
        elif kind in {"quoted", "escaped"}:
            sections[-1].append(_Token("text", text))
        elif kind == "bracket":
            if CONDITION.match(text):
                return []
            currency = CURRENCY.match(text)
            if currency:
                sections[-1].append(_Token("text", currency[1]))
            elif ELAPSED.fullmatch(text):
                sections[-1].append(_Token("elapsed", text.lower()))
        elif kind in {"date", "ampm"} and not (kind == "date" and text.lower().startswith("e")):
            sections[-1].append(_Token(kind, text.lower()))
        elif kind != "blank":
            sections[-1].append(_Token(kind, text))
    return sections


def _moment(value: dt.datetime | dt.date | dt.time | dt.timedelta, number_format: str) -> str:
    sections = _sections(number_format)
    section = sections[0] if sections else []
    if isinstance(value, dt.timedelta):
        return _elapsed(value, section)
    usable = any(token.kind in {"date", "elapsed"} for token in section)
    if number_format == SHORT_DATE or not usable:
        if isinstance(value, dt.datetime):
            return value.date().isoformat() if value.time() == dt.time() else value.isoformat(" ", "seconds")
        return value.isoformat()
    if isinstance(value, dt.time):
        value = dt.datetime.combine(dt.date(1899, 12, 30), value)
    elif not isinstance(value, dt.datetime):
        value = dt.datetime.combine(value, dt.time())
    halves = any(token.kind == "ampm" for token in section)
    written = ""
    for at, token in enumerate(section):
        if token.kind in {"date", "elapsed"}:
            written += _date_part(value, token.text, minutes=_is_minutes(section, at), halves=halves)
        elif token.kind == "ampm":
            written += ("AM" if value.hour < 12 else "PM")[: 2 if token.text == "am/pm" else 1]
        elif token.kind in {"text", "other"}:
            written += token.text
    return written.strip().removesuffix("@").rstrip(";")


def _is_minutes(section: list[_Token], at: int) -> bool:
    """Whether an `m` stands after hours or before seconds, and so is no month."""
    times = [token.text[0] if token.kind in {"date", "elapsed"} else "" for token in section]
    before = next((letter for letter in reversed(times[:at]) if letter), "")
    after = next((letter for letter in times[at + 1 :] if letter), "")
    return before == "h" or after == "s"


def _date_part(value: dt.datetime, part: str, *, minutes: bool, halves: bool) -> str:
    length = len(part)
    match part[0]:
        case "y":
            return f"{value.year % 100:02}" if length <= 2 else f"{value.year:04}"
        case "m" if minutes:
            return str(value.minute) if length == 1 else f"{value.minute:02}"
        case "m":
            names = {3: value.strftime("%b"), 4: value.strftime("%B"), 5: value.strftime("%b")[:1]}
            return names.get(length, str(value.month) if length == 1 else f"{value.month:02}")
        case "d":
            names = {3: value.strftime("%a"), 4: value.strftime("%A")}
            return names.get(length, str(value.day) if length == 1 else f"{value.day:02}")
        case "h":
            hour = (value.hour % 12 or 12) if halves else value.hour
            return str(hour) if length == 1 else f"{hour:02}"
        case _:
            seconds, _, fraction = part.replace(",", ".").partition(".")
            text = str(value.second) if len(seconds) == 1 else f"{value.second:02}"
            return f"{text}.{f'{value.microsecond:06}'[: len(fraction)]}" if fraction else text


def _elapsed(value: dt.timedelta, section: list[_Token]) -> str:
    total = round(value.total_seconds())
    sign, total = ("-", -total) if total < 0 else ("", total)
    hours, minutes, seconds = total // 3600, total // 60 % 60, total % 60
    letters = [token.text[0] for token in section if token.kind in {"date", "elapsed"}]
    if letters[:1] == ["m"]:
        return f"{sign}{total // 60}:{seconds:02}"
    if letters and "s" not in letters:
        return f"{sign}{hours}:{minutes:02}"
    return f"{sign}{hours}:{minutes:02}:{seconds:02}"
