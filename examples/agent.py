"""An agent worker with review, over REST: `work` does jobs of kind `agent`, `review` judges them.

Usage: URL=http://127.0.0.1:8080 TOKEN=... agent.py work|review [jobs]. The two need tokens of different
subjects, the one with role worker and the other with role reviewer: nobody accepts their own work.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.request
import uuid
from typing import Any

URL, TOKEN = os.environ["URL"], os.environ["TOKEN"]


def call(method: str, path: str, body: Any = None, **headers: str) -> Any:
    """What the route answers; None when it has nothing to say."""
    sent = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"} | headers
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(URL + path, data, sent, method=method)  # noqa: S310 - URL is the user's own
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - as above
        return json.loads(answer.read() or b"null")


def answer_to(task: Any, feedback: Any) -> dict[str, Any]:
    """Where a real agent calls its model; what the last reviewer wrote is the first thing it reads."""
    text = f"An answer to {task['question']}"
    return {"text": text, "sources": ["a book"] if feedback else []}


def work() -> None:
    """Claim a job, work on it, and propose the result."""
    wanted = {"worker": "agent-1", "kinds": ["agent"], "lease_s": 60, "wait_s": 20}
    while (claimed := call("POST", "/v1/leases", wanted, **{"Idempotency-Key": str(uuid.uuid4())})) is None:
        pass
    job, lease = claimed["job"], claimed["lease"]
    proposal = {"result": answer_to(job["payload"], job["feedback"])}
    call("POST", f"/v1/leases/{lease['id']}/propose", proposal, **{"Switchyard-Lease-Token": lease["token"]})


def review() -> None:
    """Judge what waits longest: an answer without sources goes back, with a hint."""
    while not (waiting := call("GET", "/v1/reviews?kind=agent")["reviews"]):
        time.sleep(0.5)
    job = call("POST", f"/v1/reviews/{waiting[-1]['id']}/claim", {"lease_s": 60})
    meant = {"If-Match": f'"{job["attempt"]}"'}  # no later proposal than this one
    if job["review"]["result"]["sources"]:
        call("POST", f"/v1/reviews/{job['id']}/accept", **meant)
    else:
        verdict = {"reason": "no sources", "feedback": {"hint": "say where it stands"}}
        call("POST", f"/v1/reviews/{job['id']}/reject", verdict, **meant)


if __name__ == "__main__":
    for _ in range(int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000):
        {"work": work, "review": review}[sys.argv[1]]()
