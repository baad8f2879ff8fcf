"""Files that the keys of users stand in: only their owner may read them."""

from __future__ import annotations

import os
from pathlib import Path

from switchyard.services.broker.rights.nkeys import MAX_BYTES, Credentials, NKeyError, credentials_in


def read(path: Path) -> Credentials:
    """Whose key stands in a file.

    Raises:
        NKeyError: it cannot be read, others can read it too, or no user's key is in it.
    """
    try:
        # A pipe or the like would be waited for.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # noqa: PTH123
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise NKeyError(f"{path} can be read by others; chmod 600 {path}")
            text = (file.read(MAX_BYTES) or b"").decode()
    except OSError as error:
        raise NKeyError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise NKeyError(f"{path} is no text") from None
    try:
        return credentials_in(text)
    except NKeyError as error:
        raise NKeyError(f"{path}: {error}") from None
