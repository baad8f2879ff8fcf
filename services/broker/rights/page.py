"""The table of rights as the docs show it; a test compares it with the page."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from switchyard.services.broker.jetstream import api_subject, get_subject, pull_subject
from switchyard.services.broker.rights.grants import covers, streams
from switchyard.services.broker.rights.table import PARTS, rights_of

BEGIN: Final = "<!-- made from services/broker/rights by `make docs` -->"
END: Final = "<!-- end -->"
LETTERS: Final = (
    ("c", "create and change it", "STREAM.CREATE"),
    ("i", "see how full it is", "STREAM.INFO"),
    ("r", "read any of its messages", "DIRECT.GET"),
    ("f", "follow it by a consumer of one's own", "CONSUMER.CREATE"),
    ("t", "take what its durable consumers give out, and answer", "$JS.ACK"),
    ("m", "make such consumers", "CONSUMER.DURABLE.CREATE"),
    ("w", "write it; events of a log as listed below", ""),
    ("d", "remove single messages", "STREAM.MSG.DELETE"),
    ("p", "remove messages by subject", "STREAM.PURGE"),
)
"""What each letter of the table stands for, and the call by which it is known."""


def table() -> str:
    """All rights, in Markdown."""
    rights = {part: [right.subject for right in rights_of(part).publish] for part in PARTS}
    shown: set[str] = set()
    rows = []
    for stream in streams():
        cells = []
        for part in PARTS:
            letters = ""
            for letter, _, call in LETTERS:
                found = [one for one in rights[part] if _is(one, call, stream)]
                shown.update(found)
                letters += letter if found else ""
            cells.append(letters)
        rows.append(f"| `{stream}` | {' | '.join(cells)} |")
    legend = ", ".join(f"**{letter}** {what}" for letter, what, _ in LETTERS)
    head = f"| stream | {' | '.join(PARTS)} |\n|---|{'---|' * len(PARTS)}"
    return f"{legend}.\n\n{head}\n" + "\n".join(rows) + "\n\n" + _others(shown)


def _is(subject: str, call: str, stream: str) -> bool:
    """Whether a right is one of those that a letter stands for."""
    match call:
        case "":
            bucket = stream.removeprefix("KV_")
            return bucket != stream and subject.startswith(f"$KV.{bucket}.")
        case "$JS.ACK":
            return subject.startswith(f"$JS.ACK.{stream}.") or (
                covers(pull_subject(stream, "*"), subject) and subject != pull_subject(stream, "*")
            )
        case "DIRECT.GET":
            return subject in (get_subject(stream), api_subject(f"STREAM.MSG.GET.{stream}"))
        case "STREAM.CREATE":
            return subject in (api_subject(f"{call}.{stream}"), api_subject(f"STREAM.UPDATE.{stream}"))
        case "CONSUMER.CREATE":
            ours = (call, "CONSUMER.DELETE")
            return subject in {
                *(api_subject(f"{one}.{stream}") for one in ours),
                *(api_subject(f"{one}.{stream}.{end}") for one in ours for end in ("*", ">")),
                pull_subject(stream, "*"),
            }
        case "CONSUMER.DURABLE.CREATE":
            return subject == api_subject(f"{call}.{stream}.*")
        case _:
            return subject == api_subject(f"{call}.{stream}")


def _others(shown: set[str]) -> str:
    """What no letter stands for, and what is heard."""
    publish: defaultdict[str, list[str]] = defaultdict(list)
    subscribe: defaultdict[str, list[str]] = defaultdict(list)
    reasons: dict[str, str] = {}
    for part in PARTS:
        rights = rights_of(part)
        for found, some in ((publish, rights.publish), (subscribe, rights.subscribe)):
            for right in some:
                found[right.subject].append(part)
                reasons.setdefault(right.subject, right.why)
    rows = [
        f"| `{subject}` | {reasons[subject]} | {_all(publish[subject])} | {_all(subscribe[subject])} |"
        for subject in sorted(reasons)
        if (subject not in shown or subscribe[subject]) and not subject.startswith("quarantine.")
    ]
    more = "Whoever reads a stream also sets aside what of it cannot be read: `quarantine.<stream>.*`.\n\n"
    return more + "| subject | what for | publish | subscribe |\n|---|---|---|---|\n" + "\n".join(rows)


def _all(parts: list[str]) -> str:
    return "all" if len(parts) == len(PARTS) else ", ".join(parts)


def page(text: str) -> str:
    """A page with the table as it is now, between its two marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"
