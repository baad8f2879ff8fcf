"""Ids of artifacts of jobs that can be erased: an id stands in subjects and events, so no name stands in it.

It is made of the name under the key of the job's payload: whoever knows the name finds the file, and once
that key is overwritten nobody can check a guess.
"""

from __future__ import annotations

import hmac
import re
import secrets
from typing import Final

from switchyard.events.values import RESULT_ARTIFACT
from switchyard.services.files.keys import FileKeys, scope_of

_ARTIFACT: Final = re.compile(r"([^.]+\.[0-9]+)\.(.+)")
_PAYLOAD: Final = re.compile(r"[^.]+\.payload\..+")
MOST: Final = 8
"""Payloads whose keys are tried: a submission that is repeated leaves one each time."""
HEX: Final = 32


async def hidden_ids(keys: FileKeys, tenant: str, file_id: str) -> list[str]:
    """The ids by which an artifact may stand whose own id would say its name; none for any other file.

    Args:
        keys: where that of the payload is.
        tenant: whose file it is.
        file_id: as `artifact_id` has it.

    Raises:
        UnavailableError: the broker does not answer.
    """
    found = _ARTIFACT.fullmatch(file_id)
    if found is None or found[2] == RESULT_ARTIFACT:
        return []
    entries = sorted(await keys.under(tenant, scope_of(file_id)), key=lambda entry: entry.revision)
    drawn = [entry.value.key for entry in entries if entry.value and _PAYLOAD.fullmatch(entry.value.file)]
    name = found[2].encode()
    return [f"{found[1]}.{hmac.digest(key, name, 'sha256').hex()[:HEX]}" for key in drawn[:MOST]]


async def hidden_id(keys: FileKeys, tenant: str, file_id: str) -> str:
    """The id that a new file of a job that can be erased gets in the place of one that would say its name.

    Where the payload is gone, it is found by that alone.

    Raises:
        UnavailableError: the broker does not answer.
    """
    found = _ARTIFACT.fullmatch(file_id)
    if found is None or found[2] == RESULT_ARTIFACT:
        return file_id
    known = await hidden_ids(keys, tenant, file_id)
    return known[0] if known else f"{found[1]}.{secrets.token_hex(HEX // 2)}"
