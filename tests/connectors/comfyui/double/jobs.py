"""`/api/jobs` of the second generation."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from tests.connectors.comfyui.double.execution import Execution

STATES = {"success": "completed", "error": "failed"}


class Jobs:
    """The queue and the history as jobs.

    Args:
        execution: what has them.
        stopped: gets the ids of what is cancelled.
    """

    def __init__(self, execution: Execution, stopped: list[str]) -> None:
        self._execution = execution
        self._stopped = stopped

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/api/jobs", self._list)
        router.add_get("/api/jobs/{id}", self._get)
        router.add_post("/api/jobs/{id}/cancel", self._cancel)

    def _job(self, prompt_id: str) -> dict[str, Any] | None:
        running = self._execution.running
        if running is not None and running.prompt_id == prompt_id:
            return self._said(prompt_id, "in_progress")
        if any(item.prompt_id == prompt_id for item in self._execution.pending):
            return self._said(prompt_id, "pending")
        entry = self._execution.history.get(prompt_id)
        if entry is None:
            return None
        said = entry["status"]
        interrupted = any(message[0] == "execution_interrupted" for message in said["messages"])
        return self._said(prompt_id, "cancelled" if interrupted else STATES[said["status_str"]])

    def _said(self, prompt_id: str, status: str) -> dict[str, Any]:
        counts = {"outputs_count": 0, "previewable_outputs_count": 0}
        return {"id": prompt_id, "status": status, "priority": 0, "create_time": 1} | counts

    async def _list(self, _request: web.Request) -> web.Response:
        found = [self._job(prompt_id) for prompt_id in sorted(self._execution.ids())]
        pages = {"offset": 0, "limit": None, "total": len(found), "has_more": False}
        return web.json_response({"jobs": found, "pagination": pages})

    async def _get(self, request: web.Request) -> web.Response:
        job = self._job(request.match_info["id"])
        if job is None:
            return web.json_response({"error": "Job not found"}, status=404)
        return web.json_response(job)

    async def _cancel(self, request: web.Request) -> web.Response:
        wanted, running = request.match_info["id"], self._execution.running
        cancelled = self._execution.delete(wanted)
        if not cancelled and running is not None and running.prompt_id == wanted:
            self._execution.interrupt.set()
            cancelled = True
        if cancelled:
            self._stopped.append(wanted)
        return web.json_response({"cancelled": cancelled})
