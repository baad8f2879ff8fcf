"""What a page's style sheet says of text above and below the line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from switchyard.services.documents.model.scripts import DOWN, UP

NAMED: Final = {"super": UP, "sub": DOWN}
MOVED: Final = re.compile(r"(?<![\w-])vertical-align\s*:\s*(super|sub)\b", re.IGNORECASE)
# Word writes how far, and browsers take a share of the size; less than that is how a picture is set.
BY: Final = re.compile(
    r"mso-text-raise\s*:\s*(-?)[\d.]{0,6}[1-9][\d.]{0,6}\s*pt"
    r"|(?<![\w-])vertical-align\s*:\s*(-?)(?:0?\.[2-9]\d{0,6}\s*em|[2-9]\d\s*%)",
    re.IGNORECASE,
)
CLASS: Final = re.compile(r"(?:^|[\s>+~])(?:[a-z]+\d?)?\.([\w-]+)$", re.IGNORECASE)
MAX_CLASSES: Final = 1_000
MAX_SELECTOR: Final = 200  # characters


def script_of(style: str) -> str:
    """Whether a style sets text above (`UP`) or below the line (`DOWN`); empty for neither."""
    if (named := MOVED.search(style)) is not None:
        return NAMED[named[1].lower()]
    if (by := BY.search(style)) is not None:
        return DOWN if by[1] or by[2] else UP
    return ""


def apply(root: Any) -> None:
    """Give the elements of a page what the classes in its sheets say of that."""
    classes: dict[str, str] = {}
    for sheet in root.iter("style"):
        for name, style in _rules(sheet.text or ""):
            if len(classes) < MAX_CLASSES:
                classes[name] = style
    for element in root.iter() if classes else ():
        for name in (element.get("class") or "").split() if isinstance(element.tag, str) else ():
            if name in classes:
                element.set("style", f"{element.get('style') or ''};{classes[name]}")


def _rules(sheet: str) -> Iterator[tuple[str, str]]:
    first, *others = sheet.split("/*")
    rules = first + "".join(other.partition("*/")[2] for other in others)  # without its comments
    for rule in rules.split("}"):
        selectors, _, style = rule.rpartition("{")
        script = script_of(style)
        for selector in selectors.split(",") if script else ():
            if (found := CLASS.search(selector.strip()[-MAX_SELECTOR:])) is not None:
                yield found[1], f"vertical-align: {'super' if script == UP else 'sub'}"
