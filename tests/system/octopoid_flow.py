"""The whole flow of Octopoid's API, by a script that knows its documented routes and nothing else.

Usage: octopoid_flow.py URL TOKEN. It prints one line a step and ends with an error at the first surprise.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import urllib.error
import urllib.request
from typing import Any

URL, TOKEN = sys.argv[1:]
SCOPE = "acme/agents"
key = ""


def call(method: str, path: str, body: Any = None) -> tuple[int, Any]:
    request = urllib.request.Request(f"{URL}{path}", method=method)
    if body is not None:
        request.add_header("Content-Type", "application/json")
        request.data = json.dumps(body).encode()
    if key:
        request.add_header("Authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def expect(step: str, got: Any, wanted: Any) -> None:
    if got != wanted:
        raise SystemExit(f"{step}: {wanted!r} was expected, and {got!r} came")
    sys.stdout.write(f"{step}\n")


def task(name: str, **fields: Any) -> dict[str, Any]:
    return {"id": name, "file_path": f"{name}.md", "branch": "main", "scope": SCOPE, **fields}


def claim(agent: str, **fields: Any) -> tuple[int, Any]:
    body = {"orchestrator_id": "prod-box", "agent_name": agent, "scope": SCOPE, **fields}
    return call("POST", "/api/v1/tasks/claim", body)


def main() -> None:
    global key  # noqa: PLW0603 - a script's own state
    expect("healthy", call("GET", "/api/health")[1]["status"], "healthy")
    expect("refused without a key", call("GET", f"/api/v1/tasks?scope={SCOPE}")[0], 401)
    me = {"cluster": "prod", "machine_id": "box", "repo_url": "git@example.org:a.git", "scope": SCOPE}
    expect("refused to a stranger", call("POST", "/api/v1/orchestrators/register", me)[0], 401)
    key = TOKEN
    status, registered = call("POST", "/api/v1/orchestrators/register", me)
    expect("registered", (status, registered["orchestrator_id"]), (201, "prod-box"))
    key = registered["api_key"]
    expect("created", call("POST", "/api/v1/tasks", task("task-001", role="implement"))[0], 201)
    second = call("POST", "/api/v1/tasks", task("task-002", role="implement", blocked_by="task-001"))
    expect("created blocked", (second[0], second[1]["blocked_by"]), (201, "task-001"))

    answers: dict[str, tuple[int, Any]] = {}

    def compete(agent: str) -> None:
        answers[agent] = claim(agent, role_filter="implement")

    rivals = [threading.Thread(target=compete, args=(agent,)) for agent in ("left", "right")]
    for rival in rivals:
        rival.start()
    for rival in rivals:
        rival.join()
    winner = next(agent for agent, (status, _) in answers.items() if status == 200)
    loser = next(agent for agent in answers if agent != winner)
    expect("one won", answers[winner][1]["claimed_by"], winner)
    expect("one lost", answers[loser], (404, {"message": "No tasks available"}))

    work = {"commits_count": 2, "turns_used": 11}
    path = "/api/v1/tasks/task-001"
    expect("submitted", call("POST", f"{path}/submit", work)[1]["queue"], "provisional")
    review = claim("gatekeeper", queue="provisional")
    expect("review claimed", (review[0], review[1]["id"]), (200, "task-001"))
    verdict = {"reason": "tests are missing", "rejected_by": "gatekeeper"}
    rejected = call("POST", f"{path}/reject", verdict)[1]
    expect("rejected", (rejected["queue"], rejected["rejection_count"]), ("incoming", 1))
    expect("claimed again", claim(loser)[1]["claimed_by"], loser)
    expect("submitted again", call("POST", f"{path}/submit", work)[1]["queue"], "provisional")
    expect("accepted", call("POST", f"{path}/accept", {"accepted_by": "gatekeeper"})[1]["queue"], "done")

    until = time.monotonic() + 20
    while (released := claim(winner))[0] == 404 and time.monotonic() < until:
        time.sleep(0.1)
    expect("released and claimed", (released[0], released[1].get("id")), (200, "task-002"))
    expect("no longer blocked", released[1]["blocked_by"], None)


main()
