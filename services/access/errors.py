"""Why a caller is not let in."""

from __future__ import annotations

from switchyard.events.errors import RejectedError


class UnauthenticatedError(RejectedError):
    """There is no token, or not one that counts; `code` says which."""

    status = 401
    code = "token_invalid"
