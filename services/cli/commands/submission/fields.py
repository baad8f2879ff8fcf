"""Options for every field of a submission."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import click

from switchyard.services.cli.json_option import object_of

PLAIN: Final = {
    "priority": click.option("--priority", type=int, help="0 to 100, higher first."),
    "max_attempts": click.option(
        "--max-attempts", type=int, help="Failures after which it is dead; 3 by default."
    ),
    "attempt_timeout_s": click.option(
        "--attempt-timeout", type=float, metavar="SECONDS", help="What one attempt may take."
    ),
    "queue_timeout_s": click.option(
        "--queue-timeout", type=float, metavar="SECONDS", help="It expires if it has not started by then."
    ),
    "run_at": click.option(
        "--run-at", metavar="TIME", help="Start it no sooner, as in 2030-01-31T12:00:00Z."
    ),
    "delay_s": click.option("--delay", type=float, metavar="SECONDS", help="Start it no sooner than this."),
    "deadline_at": click.option(
        "--deadline-at", metavar="TIME", help="It expires if it has not ended by then."
    ),
    "deadline_s": click.option(
        "--deadline", type=float, metavar="SECONDS", help="It expires if it has not ended within this."
    ),
    "isolation": click.option(
        "--isolation", type=click.Choice(["none", "loose", "strict"]), help="Whose workers may run it."
    ),
    "on_dependency_failure": click.option(
        "--on-dependency-failure",
        type=click.Choice(["dead", "cancel", "run", "wait"]),
        help="What becomes of it where a job fails that it waits for; dead by default.",
    ),
    "max_rejections": click.option(
        "--max-rejections", type=int, help="Reviews that may reject it before it is dead; 3 by default."
    ),
    "derive": click.option(
        "--derive/--no-derive", default=None, help="Whether what its payload needs of a worker is found out."
    ),
    "erase_s": click.option(
        "--erase-s", type=float, metavar="SECONDS", help="Erase it so long after its end."
    ),
}
"""Those that are sent as they are given, by field."""

OBJECTS: Final = {
    "requires": "What a worker must have, as JSON, or @FILE.",
    "prefers": "What ranks the workers that fit, as JSON, or @FILE.",
    "retry": "Delays between attempts, as JSON, or @FILE: base_s, factor, max_s, jitter.",
    "ageing": "How its priority rises while it waits, as JSON, or @FILE: every_s, step, max.",
    "review": "How a proposed result is judged, as JSON, or @FILE.",
}
LISTS: Final = {
    "limits": click.option(
        "--limit", multiple=True, metavar="NAME", help="A limit that it counts against; repeatable."
    ),
    "depends_on": click.option(
        "--depends-on", multiple=True, metavar="JOB", help="A job that must end first; repeatable."
    ),
}
NAMES: Final = {
    "attempt_timeout_s": "attempt_timeout", "queue_timeout_s": "queue_timeout", "delay_s": "delay",
    "deadline_s": "deadline", "limits": "limit",
}  # fmt: skip
"""Options that are not called as their field."""


def fields(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a command that submits."""
    objects = [
        click.option(f"--{name}", metavar="JSON|@FILE", help=text) for name, text in reversed(OBJECTS.items())
    ]
    for option in (*reversed(PLAIN.values()), *reversed(LISTS.values()), *objects):
        command = option(command)
    return command


def body_of(given: dict[str, Any]) -> dict[str, Any]:
    """What the options say, by field; what they do not say is left to the gateway."""
    body = {field: given[NAMES.get(field, field)] for field in PLAIN}
    body |= {field: list(given[NAMES.get(field, field)]) or None for field in LISTS}
    body |= {field: object_of(given[field], f"--{field}") if given[field] else None for field in OBJECTS}
    return {field: value for field, value in body.items() if value is not None}
