"""What all answers share."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

Moment = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
"""A time that is stored as the API shows it."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The body of an answer. A field that may be left out is `UNSET` then; None is written as null."""
