"""Why a caller is not let in."""

from __future__ import annotations

from switchyard.events.errors import LimitError, RejectedError


class UnauthenticatedError(RejectedError):
    """There is no token, or not one that counts; `code` says which."""

    status = 401
    code = "token_invalid"


class RateLimitedError(LimitError):
    """A caller asks more often than it may.

    Args:
        message: the limit.
        limit: which: `key` or `tenant`.
        retry_after_s: seconds until one more request may come.
    """

    status = 429
    code = "rate_limited"

    def __init__(self, message: str, *, limit: str, retry_after_s: float) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.limit = limit
