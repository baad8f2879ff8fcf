"""A document and its images, from the submitter to the worker and back."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import orjson
from PIL import Image

from switchyard.services.broker.server.server import NatsServer
from switchyard.services.connectors.convert.connector import ConvertConnector
from tests.documents.office_files import p, r, write_docx
from tests.gateway.rest import Gateway, gateway
from tests.worker.site import open_site

COLOURS = ("red", "green", "blue")


def picture(colour: str) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(data, "PNG")
    return data.getvalue()


def document(path: Path) -> bytes:
    """A Word document of a picture of each colour."""
    body = p(r("What the pictures show.")) + "".join(
        p(
            f'<w:r><w:drawing><wp:inline><wp:docPr id="1" name="x" descr="{colour}"/><a:graphic>'
            f'<a:graphicData><a:blip r:embed="{colour}"/></a:graphicData></a:graphic></wp:inline>'
            "</w:drawing></w:r>"
        )
        for colour in COLOURS
    )
    links = {colour: ("image", f"media/{colour}.png") for colour in COLOURS}
    parts = {f"word/media/{colour}.png": picture(colour) for colour in COLOURS}
    return write_docx(path, body, links=links, extra=parts).read_bytes()


async def download(api: Gateway, reference: dict[str, Any]) -> bytes:
    answer = await api.get(f"/v1/files/{reference['file']}")
    assert answer.status == 200, answer
    assert answer.headers["Content-Type"] == reference["type"]
    assert len(answer.raw) == reference["size_bytes"]
    return answer.raw


async def test_the_images_of_a_document_can_be_downloaded_as_they_are(
    broker: NatsServer, tmp_path: Path
) -> None:
    async with (
        open_site(broker.url) as site,
        gateway(broker.url, tmp_path / "gateway") as api,
        site.worker(ConvertConnector(slots=1)),
    ):
        stored = await api.call(
            "POST", "/v1/files?name=pictures.docx", document(tmp_path / "d.docx"),
            Content_Type="application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        )  # fmt: skip
        assert stored.status == 201, stored
        payload = {"file": stored.json["id"], "images": "save", "formats": ["markdown", "json"]}
        job = await api.submit(kind="convert", payload=payload)
        assert (await site.final(job["id"])).name == "succeeded"
        done = (await api.get(f"/v1/jobs/{job['id']}")).json
        result = done["result"]
        assert (
            result["markdown"]
            == "What the pictures show.\n\n"
            + "\n\n".join(f"![{colour}](image-{at}.png)" for at, colour in enumerate(COLOURS, start=1))
            + "\n"
        )
        assert [image["name"] for image in result["images"]] == ["image-1.png", "image-2.png", "image-3.png"]
        for image, colour in zip(result["images"], COLOURS, strict=True):
            assert await download(api, image) == picture(colour)
            assert (
                await api.get(f"/v1/files/{image['file']}", token=api.token(tenant="other"))
            ).status == 404
        pages = orjson.loads(await download(api, result["json"]))["pages"]
        assert [block.get("image") for block in pages[0]["blocks"]] == [
            None, "image-1.png", "image-2.png", "image-3.png",
        ]  # fmt: skip
        assert {artifact["name"] for artifact in done["artifacts"]} == {
            "document.json", "image-1.png", "image-2.png", "image-3.png",
        }  # fmt: skip
