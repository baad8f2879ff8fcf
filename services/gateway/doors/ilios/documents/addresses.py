"""Addresses by which a client sends or fetches one file without a key: ours, until a store has better."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlencode

from switchyard.services import clock
from switchyard.services.access.browsers.file_tickets import FileClaims
from switchyard.services.gateway.app_keys import FILE_TICKETS
from switchyard.services.gateway.doors.ilios.ids import document_id
from switchyard.services.gateway.http.identity import TICKET
from switchyard.services.gateway.http.origin import origin_of
from switchyard.services.gateway.http.routes import Call

UPLOAD_S: Final = 3600
DOWNLOAD_S: Final = 300


def upload_address(call: Call[Any], file: str, *, media_type: str, days: int) -> str:
    """Where a client may put the bytes of a file, for `UPLOAD_S`.

    Args:
        call: whose.
        file: its id.
        media_type: that of what comes.
        days: for how long it is kept.
    """
    claims = FileClaims(
        call.caller.tenant, file, "PUT", clock.time_s() + UPLOAD_S, media_type, days, call.caller.key
    )
    return _address(call, claims)


def download_address(call: Call[Any], file: str, *, for_s: float = DOWNLOAD_S) -> str:
    """Where a client may get the bytes of a file.

    Args:
        call: whose.
        file: its id.
        for_s: seconds for which.
    """
    return _address(call, FileClaims(call.caller.tenant, file, "GET", clock.time_s() + for_s))


def _address(call: Call[Any], claims: FileClaims) -> str:
    query = urlencode({TICKET: call.part(FILE_TICKETS).sign(claims)})
    return f"{origin_of(call.request)}/api/documents/{document_id(claims.file)}/file?{query}"
