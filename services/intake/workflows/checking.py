"""Whether a template can make jobs. It is judged when it is put: later only inputs can be at fault."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final, NoReturn

import orjson
from msgspec import UNSET

from switchyard.events.errors import InvalidError, LimitError, RejectedError
from switchyard.events.subjects import NAME
from switchyard.services.connectors.registry import payload_model
from switchyard.services.intake.dependencies import check_model
from switchyard.services.intake.request import JobRequest, parse_request
from switchyard.services.intake.workflows import values
from switchyard.services.intake.workflows.filling import filled
from switchyard.services.intake.workflows.pointers import Steps, can_be_put, steps_of
from switchyard.services.intake.workflows.schema import example_value
from switchyard.services.records.workflows.record import MAX_INPUTS, MAX_SEED, Input, Template
from switchyard.services.settings import Settings

OF_ONE_JOB: Final = (
    "kind", "payload", "workflow", "inputs", "run_at", "start_at", "delay_s", "deadline_at", "depends_on",
)  # fmt: skip
"""Fields of a submission that a template does not say under `job`."""
_NUMBERS: Final = frozenset({"integer", "number", "seed"})
_CHOSEN: Final = frozenset({"string", "integer", "number"})


def check_template(template: Template, settings: Settings) -> None:
    """Judge a template.

    Raises:
        InvalidError, LimitError: it breaks a rule; `field` says where.
    """
    if NAME.fullmatch(template.kind) is None:
        _refuse("kind", f"a name that matches {NAME.pattern} was expected")
    size_bytes = len(orjson.dumps(template.payload))
    if size_bytes > settings.payload_bytes:
        raise LimitError(
            f"payload: {size_bytes} bytes as JSON, of at most {settings.payload_bytes}",
            status=413, code="payload_too_large", field="payload",
        )  # fmt: skip
    if len(template.inputs) > MAX_INPUTS:
        _refuse("inputs", f"{len(template.inputs)} of at most {MAX_INPUTS}")
    for name, one in template.inputs.items():
        _check_input(template, one, f"inputs.{name}")
    _check_apart(template)
    defaults_of(template)
    if template.count is not None and not template.count.default <= template.count.max:
        _refuse("count.default", f"at most {template.count.max}, as count.max says")
    if template.count is not None and template.count.max > settings.workflow_jobs:
        _refuse("count.max", f"at most {settings.workflow_jobs} jobs of one submission")
    _check_payload(template)


def defaults_of(template: Template) -> JobRequest:
    """What its jobs get where their submissions do not say.

    Raises:
        RejectedError: it breaks a rule; `field` begins with `job`.
    """
    for name in OF_ONE_JOB:
        if name in template.job:
            _refuse(f"job.{name}", "a workflow's jobs have it from their submission or from the template")
    try:
        return parse_request(orjson.dumps({**template.job, "kind": template.kind}))
    except RejectedError as error:
        error.message = f"job.{error.message}" if error.field else f"job: {error.message}"
        error.field = f"job.{error.field}" if error.field else "job"
        raise


def _check_input(template: Template, one: Input, field: str) -> None:
    for at, pointer in enumerate(one.to):
        if not can_be_put(template.payload, steps_of(pointer)):
            _refuse(f"{field}.to[{at}]", f"the payload has no place {pointer[:200]!r}")
    _check_bounds(one, field)
    if one.choices is not None and one.choices_from is not None:
        _refuse(f"{field}.choices", "not together with choices_from")
    if (one.choices is not None or one.choices_from is not None) and one.type not in _CHOSEN:
        _refuse(f"{field}.type", "choices are for string, integer and number")
    for at, choice in enumerate(one.choices or ()):
        values.check(one, choice, f"{field}.choices[{at}]")
    if one.default is not UNSET and not values.is_to_be_drawn(one, one.default):
        if one.required:
            _refuse(f"{field}.default", "not together with required")
        values.check(one, one.default, f"{field}.default")
    if one.required and one.type == "seed":
        _refuse(f"{field}.required", "a seed that is not given is drawn")


def _check_bounds(one: Input, field: str) -> None:
    for name, bound in (("min", one.min), ("max", one.max)):
        if bound is None:
            continue
        if one.type not in _NUMBERS:
            _refuse(f"{field}.{name}", "only a number has one")
        if one.type != "number" and int(bound) != bound:
            _refuse(f"{field}.{name}", "a whole number was expected")
        if one.type == "seed" and not 0 <= bound <= MAX_SEED:
            _refuse(f"{field}.{name}", f"0 to {MAX_SEED} was expected")
    if one.min is not None and one.max is not None and one.min > one.max:
        _refuse(f"{field}.min", f"at most {one.max}, as max says")
    if one.max_chars is not None and one.type != "string":
        _refuse(f"{field}.max_chars", "only a string has it")


def _check_apart(template: Template) -> None:
    """No place may be in another: what stands there would go by the order of the inputs."""
    places: list[tuple[Steps, str]] = sorted(
        (steps_of(pointer), f"inputs.{name}.to[{at}]")
        for name, one in template.inputs.items()
        for at, pointer in enumerate(one.to)
    )
    for (before, _), (after, field) in pairwise(places):
        if after[: len(before)] == before:
            _refuse(field, "another input goes to the same place, or to one around it")


def _check_payload(template: Template) -> None:
    """The payload with example values has to be one of the kind, as far as those of files say something."""
    model = payload_model(template.kind)
    if model is None:
        return
    given: dict[str, Any] = {}
    for name, one in template.inputs.items():
        value = example_value(template, one)
        if value is not UNSET:
            given[name] = value
    payload = filled(template, given).payload
    places = tuple(steps_of(pointer) for one in template.inputs.values() for pointer in one.to)
    check_model(model, payload, places)


def _refuse(field: str, rule: str) -> NoReturn:
    raise InvalidError(f"{field}: {rule}", field=field)
