"""A double of docling-serve 1.38.2, from its recorded answers."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from tests.connectors.convert.double.mistral import picture
from tests.connectors.convert.double.serving import Double, json

KEY = "docling-key-of-tests-0123456789"
NO_LAYOUT = {
    "component_type": "pipeline", "module_name": "StandardPdfPipeline", "category": "unknown",
    "page_no": None,
    "error_message": "Missing safe tensors file: /models/docling-layout-heron/model.safetensors",
}  # fmt: skip


class DoclingDouble(Double):
    """The server."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = True
        """Whether it has the asynchronous routes."""
        self.polls = 2
        self.status = "success"
        self.errors: list[Any] = []
        self.pages = 3
        self.task_status = "success"
        self.endless_bytes = 10**9
        """A document of so many bytes is never done."""
        self.forms: list[dict[str, list[str]]] = []
        self.names: list[str] = []
        self._looks = 0

    def refusal(self, request: web.Request) -> web.StreamResponse | None:
        return None if request.headers.get("X-Api-Key") == KEY else json({"detail": "Unauthorized"}, 401)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/convert/file/async", self._begin),
            web.post("/v1/convert/file", self._convert),
            web.get("/v1/status/poll/{id}", self._poll),
            web.get("/v1/result/{id}", self._result),
        ]

    async def _take(self, request: web.Request) -> None:
        form = await request.post()
        self.forms.append({name: [str(one) for one in form.getall(name)] for name in form if name != "files"})
        file = form["files"]
        assert isinstance(file, web.FileField)
        self.names.append(file.filename)
        with file.file as opened:
            size_bytes = len(opened.read())
        if size_bytes >= self.endless_bytes:
            await self.hold(request)

    def _task(self, status: str) -> dict[str, Any]:
        message = "the worker died" if status == "failure" else None
        return {
            "task_id": "task-1", "task_type": "convert", "task_status": status, "task_position": 1,
            "task_meta": None, "error_message": message,
        }  # fmt: skip

    async def _begin(self, request: web.Request) -> web.StreamResponse:
        if not self.waits:
            return json({"detail": "Not Found"}, 404)
        await self._take(request)
        self._looks = 0
        return json(self._task("pending"))

    async def _poll(self, _request: web.Request) -> web.StreamResponse:
        self._looks += 1
        return json(self._task(self.task_status if self._looks >= self.polls else "started"))

    async def _result(self, _request: web.Request) -> web.StreamResponse:
        if self.task_status == "failure":
            return json({"detail": "Task result not found. Please wait for a completion status."}, 404)
        return json(self._answer())

    async def _convert(self, request: web.Request) -> web.StreamResponse:
        await self._take(request)
        return json(self._answer())

    def _answer(self) -> dict[str, Any]:
        form = self.forms[-1]
        mark = form["md_page_break_placeholder"][0]
        image = f"![Image]({picture()})" if form["image_export_mode"] == ["embedded"] else "<!-- image -->"
        markdown = f"\n\n{mark}\n\n".join(f"# Page {at + 1}\n\n{image}" for at in range(self.pages))
        made = self.status in ("success", "partial_success")
        return {
            "document": {
                "filename": self.names[-1], "md_content": markdown if made else "", "json_content": None,
                "html_content": None, "text_content": "Page 1" if "text" in form["to_formats"] else None,
                "doctags_content": None,
            },
            "status": self.status, "errors": self.errors, "processing_time": 0.1, "timings": {},
        }  # fmt: skip
