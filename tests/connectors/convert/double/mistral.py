"""A double of Mistral's API: files, OCR and batches, as the client `mistralai` sends and takes them."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any

import orjson
import pypdfium2 as pdfium
from aiohttp import web
from PIL import Image

from tests.connectors.convert.double.serving import Double, json

KEY = "mistral-key-of-tests-0123456789"
CREATED_AT = 1_764_000_000


def picture(colour: str = "red") -> str:
    data = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(data, "JPEG")
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"


def page(index: int, text: str, *, images: bool = False) -> dict[str, Any]:
    """A page with a picture."""
    box = {"top_left_x": 100, "top_left_y": 200, "bottom_right_x": 300, "bottom_right_y": 400}
    return {
        "index": index,
        "markdown": f"# Page {text}\n\n![img-0.jpeg](img-0.jpeg)",
        "images": [{"id": "img-0.jpeg", **box, "image_base64": picture() if images else None}],
        "dimensions": {"dpi": 200, "height": 2000, "width": 1000},
    }


class MistralDouble(Double):
    """The API; its pages say which page of the PDF they are by the width of that."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, bytes] = {}
        self.names: list[str] = []
        self.read: list[int] = []
        """How many pages each call had."""
        self.sizes: list[int] = []
        """How many bytes each call had."""
        self.jobs: dict[str, dict[str, Any]] = {}
        self.polls_left = 1
        self.ends_as = "SUCCESS"
        self.endless_pages = 0
        """A document of so many pages is never done."""
        self.rewrite: Callable[[dict[str, Any]], Any] = lambda body: body
        """What an answer reads like."""
        self.fails: Callable[[str], bool] = lambda _custom_id: False
        """Which documents of a batch fail."""
        self.forgets: Callable[[str], bool] = lambda _custom_id: False
        """Which documents of a batch are not answered."""

    def refusal(self, request: web.Request) -> web.StreamResponse | None:
        if request.headers.get("Authorization") == f"Bearer {KEY}":
            return None
        return json({"detail": "Unauthorized"}, 401)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/files", self._upload),
            web.get("/v1/files/{id}", self._file),
            web.get("/v1/files/{id}/url", self._url),
            web.get("/v1/files/{id}/content", self._content),
            web.delete("/v1/files/{id}", self._delete),
            web.post("/v1/ocr", self._ocr),
            web.post("/v1/batch/jobs", self._create),
            web.get("/v1/batch/jobs", self._list),
            web.get("/v1/batch/jobs/{id}", self._job),
            web.post("/v1/batch/jobs/{id}/cancel", self._cancel),
        ]

    # --- Files

    def _stored(self, data: bytes, name: str, purpose: str) -> dict[str, Any]:
        file_id = f"file-{len(self.names) + 1}"
        self.files[file_id] = data
        self.names.append(name)
        return {
            "id": file_id, "object": "file", "size_bytes": len(data), "created_at": CREATED_AT,
            "filename": name, "purpose": purpose, "sample_type": "ocr_input", "source": "upload",
        }  # fmt: skip

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        file = form["file"]
        assert isinstance(file, web.FileField)
        with file.file as opened:
            data = opened.read()
        return json(self._stored(data, file.filename, str(form["purpose"])))

    async def _file(self, request: web.Request) -> web.StreamResponse:
        data = self.files[request.match_info["id"]]
        return json({
            "id": request.match_info["id"], "object": "file", "size_bytes": len(data),
            "created_at": CREATED_AT, "filename": "a.pdf", "purpose": "ocr", "sample_type": "ocr_input",
            "source": "upload", "deleted": False,
        })  # fmt: skip

    async def _url(self, request: web.Request) -> web.StreamResponse:
        if request.match_info["id"] not in self.files:
            return json({"detail": "no such file"}, 404)
        return json({"url": f"https://files.example/{request.match_info['id']}?signature=x"})

    async def _content(self, request: web.Request) -> web.StreamResponse:
        if request.match_info["id"] not in self.files:
            return json({"detail": "no such file"}, 404)
        return web.Response(body=self.files[request.match_info["id"]])

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        if self.files.pop(request.match_info["id"], None) is None:
            return json({"detail": "no such file"}, 404)
        return json({"id": request.match_info["id"], "object": "file", "deleted": True})

    # --- OCR

    async def _ocr(self, request: web.Request) -> web.StreamResponse:
        answer = self.answer(await request.json())
        if self.read[-1] == self.endless_pages:
            return await self.hold(request)
        return json(self.rewrite(answer))

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        document = body["document"]
        address = document.get("document_url") or document.get("image_url")
        address = address["url"] if isinstance(address, dict) else address
        if address.startswith("data:"):
            data = base64.b64decode(address.partition(",")[2])
        else:
            data = self.files[address.rpartition("/")[2].partition("?")[0]]
        images = bool(body.get("include_image_base64"))
        if data.startswith(b"%PDF"):
            with pdfium.PdfDocument(data) as pdf:
                pages = [page(at, f"{pdf[at].get_width():.0f}", images=images) for at in range(len(pdf))]
        else:
            pages = [page(0, "of a picture", images=images)]
        self.read.append(len(pages))
        self.sizes.append(len(data))
        usage = {"pages_processed": len(pages), "doc_size_bytes": len(data)}
        return {"pages": pages, "model": body["model"], "usage_info": usage}

    # --- Batches

    async def _create(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        lines = [orjson.loads(line) for one in body["input_files"] for line in self.files[one].splitlines()]
        good, bad = [], []
        for line in lines:
            custom_id = line["custom_id"]
            if self.fails(custom_id):
                error = {"status_code": 422, "body": {"message": "it cannot be read"}}
                bad.append({"id": "x", "custom_id": custom_id, "response": error, "error": None})
            elif not self.forgets(custom_id):
                said = self.answer({**line["body"], "model": body["model"]})
                answer = {"status_code": 200, "body": said}
                good.append({"id": "x", "custom_id": custom_id, "response": answer, "error": None})
        job_id = f"job-{len(self.jobs) + 1}"

        def stored(found: list[dict[str, Any]]) -> str | None:
            data = b"".join(orjson.dumps(one) + b"\n" for one in found)
            return self._stored(data, "out.jsonl", "batch")["id"] if found else None

        self.jobs[job_id] = {
            "id": job_id, "object": "batch", "input_files": body["input_files"], "endpoint": body["endpoint"],
            "model": body["model"], "errors": [], "status": "QUEUED", "created_at": CREATED_AT,
            "metadata": body.get("metadata"), "total_requests": len(lines), "completed_requests": 0,
            "succeeded_requests": len(good), "failed_requests": len(bad), "output_file": stored(good),
            "error_file": stored(bad),
        }  # fmt: skip
        return json({**self.jobs[job_id], "output_file": None, "error_file": None})

    async def _list(self, request: web.Request) -> web.StreamResponse:
        size, page = int(request.query["page_size"]), int(request.query["page"])
        found = list(reversed(self.jobs.values()))[page * size : (page + 1) * size]
        return json({"object": "list", "data": found, "total": len(self.jobs)})

    async def _job(self, request: web.Request) -> web.StreamResponse:
        job = self.jobs.get(request.match_info["id"])
        if job is None:
            return json({"detail": "no such job"}, 404)
        if job["status"] == "QUEUED":
            self.polls_left -= 1
            job["status"] = "QUEUED" if self.polls_left > 0 else self.ends_as
        return json(job)

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        job = self.jobs[request.match_info["id"]]
        job["status"] = "CANCELLED"
        return json(job)
