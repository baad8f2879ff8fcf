"""What a server answers that did not do the work, in words for users, and whether to try again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from switchyard.services.connectors.comfyui.wording import cleaned
from switchyard.services.connectors.protocol import BusyError, ConnectorError, FatalError, RetryableError

OUT_OF_MEMORY: Final = "out_of_memory"
INVALID: Final = "invalid_parameters"
NO_ROUTE: Final = "task_not_supported"
MODEL: Final = "model_not_found"
FAULTS: Final = 20
_MEMORY: Final = re.compile(r"OutOfMemory|out of memory|not enough memory|alloc\w* memory", re.IGNORECASE)
_PARAMETERS: Final = (
    (re.compile(r"always on script|selectable script", re.IGNORECASE), "alwayson_scripts"),
    (re.compile(r"\bscript\b.*not found", re.IGNORECASE), "script_name"),
    (re.compile(r"\bsampler\b.*not found|bad sampler|unknown sampler", re.IGNORECASE), "sampler_name"),
    (re.compile(r"\bscheduler\b.*not found|unknown scheduler", re.IGNORECASE), "scheduler"),
    (re.compile(r"init image not found", re.IGNORECASE), "init_images"),
    (re.compile(r"^image not found", re.IGNORECASE), "image"),
    (re.compile(r"invalid (encoded )?image|invalid image|cannot identify image", re.IGNORECASE), "images"),
)
"""What is said of a parameter that no attempt makes right, and which that is."""
_MODELS: Final = (
    (re.compile(r"upscaler", re.IGNORECASE), "upscaler"),
    (re.compile(r"refiner", re.IGNORECASE), "refiner_checkpoint"),
    (re.compile(r"checkpoint|\bmodel\b", re.IGNORECASE), "override_settings.sd_model_checkpoint"),
)
_NOT_THERE: Final = re.compile(r"not found|unknown checkpoint|could not find|couldn't find", re.IGNORECASE)


def failure_of(status: int, body: Any, task: str) -> ConnectorError:
    """What an answer amounts to that has no work in it.

    Args:
        status: of HTTP.
        body: what came as JSON; None for what is none.
        task: what was to be done.
    """
    answer: Mapping[str, Any] = body if isinstance(body, dict) else {}
    detail = answer.get("detail")
    said = next((text for each in (detail, answer.get("errors")) if (text := cleaned(each))), "")
    name = cleaned(answer.get("error"))
    if status in (401, 403):
        return BusyError("backend_refuses", "the server does not take the user and password of the section")
    if status == 404 and said in ("", "Not Found"):
        return RetryableError(NO_ROUTE, f"the server has no route for {task}")
    if status == 413:
        return FatalError("input_too_large", "the server does not take a request of that size")
    if status == 422 and isinstance(detail, list):
        return FatalError(INVALID, _faults(detail) or "the server does not take the parameters")
    both = f"{name}: {said}" if name and said else name or said
    if _MEMORY.search(both):
        return RetryableError(OUT_OF_MEMORY, both.partition(". ")[0])
    for pattern, field in _PARAMETERS:
        if pattern.search(said):
            return FatalError(INVALID, f"{_field(field, task)}: {said}")
    if _NOT_THERE.search(both):
        for pattern, field in _MODELS:
            if pattern.search(both):
                return RetryableError(MODEL, f"{_model_field(field, task)}: {said or both}")
    if 400 <= status < 500 and status != 429:
        return FatalError(INVALID, said or f"the server answers {status}")
    if not both:
        return RetryableError("backend_failed", f"the server answers {status}")
    return RetryableError("generation_failed", both)


def _field(field: str, task: str) -> str:
    if field == "images":
        return "image" if task in ("upscale", "interrogate") else "init_images or mask"
    return field


def _model_field(field: str, task: str) -> str:
    if field == "upscaler":
        return "upscaler_1 or upscaler_2" if task == "upscale" else "hr_upscaler"
    return "model" if task == "interrogate" else field


def _faults(detail: list[Any]) -> str:
    """What pydantic found wrong, each with its field."""
    found = []
    for each in detail[:FAULTS]:
        if not isinstance(each, dict):
            continue
        place = each.get("loc")
        parts = [str(part)[:80] for part in place if part != "body"] if isinstance(place, list) else []
        field = cleaned(".".join(parts)) or "the request"
        found.append(f"{field}: {cleaned(each.get('msg')) or 'it is not valid'}")
    return "; ".join(found)[:1_000]
