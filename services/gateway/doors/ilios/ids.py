"""Ids of documents and batches: those of jobs and files, as clients of Ilios know ids.

There an id matches `^[a-z0-9]{20,30}$`. One of ours is a UUID written to the base of 36 in 25 digits, which
leads back to the UUID.
"""

from __future__ import annotations

import re
import uuid
from typing import Final

from switchyard.events.vocabulary.ids import JobId
from switchyard.services.gateway.doors.ilios.refusals import RefusedError

FORM: Final = re.compile(r"[a-z0-9]{20,30}")
LENGTH: Final = 25
BASE: Final = 36
DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
END: Final = 2**128
WRONG: Final = "Invalid document ID format"


def document_id(id_: str) -> str:
    """A UUID as clients know it.

    Args:
        id_: that of a job or file, 36 characters long.
    """
    number, digits = uuid.UUID(id_).int, ""
    while number:
        number, digit = divmod(number, BASE)
        digits = DIGITS[digit] + digits
    return digits.rjust(LENGTH, "0")


def uuid_of(document: str) -> JobId | None:
    """The UUID that an id leads back to; None for one that another system has made.

    Raises:
        RefusedError: it has not the form of an id.
    """
    if FORM.fullmatch(document) is None:
        raise RefusedError(WRONG, details=WRONG)
    number = int(document, BASE)
    if len(document) != LENGTH or number >= END:
        return None
    return JobId(str(uuid.UUID(int=number)))
