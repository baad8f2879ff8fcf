"""`switchyard submit` has every field of a submission, and the gateway takes each as it is given."""

from __future__ import annotations

from typing import Any, Final

import click
import msgspec
import pytest

from switchyard.services.cli.commands.submission import fields
from switchyard.services.cli.root import cli
from switchyard.services.intake.request import JobRequest
from tests.cli.site import Site

ALIASES: Final = {"start_at"}
"""Other names of fields, for clients of other systems."""
OWN: Final = {
    "kind": "--kind", "payload": "--payload", "workflow": "--workflow", "inputs": "--inputs",
    "labels": "--label", "erasable": "--erasable",
}  # fmt: skip
GIVEN: Final[dict[str, tuple[str, Any]]] = {
    "priority": ("--priority 70", 70),
    "max_attempts": ("--max-attempts 4", 4),
    "attempt_timeout_s": ("--attempt-timeout 60", 60),
    "queue_timeout_s": ("--queue-timeout 600", 600),
    "run_at": ("--run-at 2999-01-31T12:00:00Z", "2999-01-31T12:00:00Z"),
    "deadline_at": ("--deadline-at 2999-02-28T12:00:00Z", "2999-02-28T12:00:00Z"),
    "isolation": ("--isolation loose", "loose"),
    "on_dependency_failure": ("--on-dependency-failure run", "run"),
    "max_rejections": ("--max-rejections 5", 5),
    "requires": ('--requires {"zone":{"$eq":"eu"}}', {"zone": {"$eq": "eu"}}),
    "prefers": ('--prefers {"zone":{"$eq":"eu"}}', {"zone": {"$eq": "eu"}}),
    "retry": ('--retry {"base_s":2,"factor":3,"max_s":90,"jitter":0.5}',
              {"base_s": 2, "factor": 3, "max_s": 90, "jitter": 0.5}),
    "ageing": ('--ageing {"every_s":60,"step":2,"max":90}', {"every_s": 60, "step": 2, "max": 90}),
    "labels": ("--label team=ml", {"team": "ml"}),
    "payload": ('--payload {"n":1}', {"n": 1}),
    "derive": ("--no-derive", None),
    "review": ('--review {"deadline_s":60}', None),
}  # fmt: skip
"""What is given, and what the job then has under the field, if it is shown there."""
SHOWN: Final = {"run_at": "start_at"}
APART: Final = {
    "delay_s": ("--delay 3600", "start_at"), "deadline_s": ("--deadline 7200", "deadline_at"),
    "erasable": ("--erasable", "erasable"), "erase_s": ("--erasable --erase-s 3600", "erase_s"),
}  # fmt: skip
"""Those that are not given together with these, with the field that says what became of each."""


def test_the_command_has_every_field_of_a_submission() -> None:
    wanted = {field.name for field in msgspec.structs.fields(JobRequest)} - ALIASES
    found = {*fields.PLAIN, *fields.OBJECTS, *fields.LISTS, *OWN}
    assert found == wanted
    command = cli.get_command(click.Context(cli), "submit")
    assert command is not None
    options = {option for each in command.params for option in each.opts}
    assert set(OWN.values()) <= options
    tried = {*GIVEN, *APART, "kind", "workflow", "inputs", "limits", "depends_on"}
    assert tried == wanted


@pytest.mark.system
def test_the_gateway_takes_each_field_as_it_is_given(site: Site) -> None:
    assert site.run("limit", "set", "gpu", "--concurrency", "2").returncode == 0
    first = site.json("submit", "--kind", "nobodys")["id"]
    words = " ".join(text for text, _ in GIVEN.values()).split()
    made = site.json("submit", "--kind", "nobodys", *words, "--limit", "gpu", "--depends-on", first)
    job = site.json("get", made["id"])
    got = {field: job[SHOWN.get(field, field)] for field, (_, value) in GIVEN.items() if value is not None}
    wanted = {field: value for field, (_, value) in GIVEN.items() if value is not None}
    for field in ("run_at", "deadline_at"):
        got[field] = got[field].replace("00.000000Z", "00Z")
    assert got == wanted
    assert (job["limits"], job["depends_on"]) == (["gpu"], [first])
    assert job["review_rules"]["deadline_s"] == 60
    for text, field in APART.values():
        assert site.json("get", site.json("submit", "--kind", "nobodys", *text.split())["id"])[field]


@pytest.mark.system
@pytest.mark.parametrize(
    ("given", "field"),
    [
        ("--priority 101", "priority"), ("--run-at soon", "run_at"), ("--delay -1", "delay_s"),
        ('--retry {"base_s":-1}', "retry.base_s"), ('--requires {"a":{"$foo":1}}', "requires.a.$foo"),
        ("--depends-on zzzz", "depends_on[0]"), ("--limit nope", "limits[0]"), ("--erase-s 0", "erase_s"),
        ("--max-attempts 0", "max_attempts"), ('--ageing {"n":1}', "ageing.n"),
        ('--review {"n":1}', "review.n"), ("--label A=1", "labels.A"),
        ("--idempotency-key ä", "Idempotency-Key"), ('--payload {"duration":1}', "payload.duration"),
    ],
)  # fmt: skip
def test_a_refusal_names_its_field_once(site: Site, given: str, field: str) -> None:
    done = site.run("submit", "--kind", "simulate", *given.split())
    assert done.returncode == 6
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"switchyard: {field}: ")
    assert line.count(field) == 1
