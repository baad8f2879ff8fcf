"""What to say of a kind that nobody runs."""

from __future__ import annotations

import difflib
from typing import Any, Final

from switchyard.errors import ClientError
from switchyard.services.cli.client import Api
from switchyard.services.cli.output import say

SEEN_WORKERS: Final = 500
WAITING: Final = "queued"
NAMED: Final = 5


async def hint(api: Api, job: dict[str, Any]) -> None:
    """Say on standard error that nobody runs the kind of a job that waits, and which was meant perhaps."""
    if job["state"] != WAITING:
        return
    try:
        page = await api.page("/v1/workers", "workers", params={"limit": SEEN_WORKERS})
        servers = await api.page("/v1/servers", "servers", params={"limit": SEEN_WORKERS})
    except ClientError:  # the job is made all the same
        return
    if page["cursor"] is not None or servers["cursor"] is not None:
        return
    known = {kind for one in (*page["workers"], *servers["servers"]) for kind in one.get("kinds", ())}
    kind = str(job.get("kind", ""))
    if kind in known:
        return
    near = difflib.get_close_matches(kind, known, n=1)
    if near:
        more = f"did you mean {near[0]!r}? `switchyard cancel {job['id']}` takes it back"
    elif known:
        some = ", ".join(sorted(known)[:NAMED])
        more = f"it waits; others run {some}{' and more' if len(known) > NAMED else ''}"
    else:
        more = "it waits: start a worker with `switchyard worker`"
    say(f"switchyard: nobody runs jobs of kind {kind!r} now; {more}", err=True)
