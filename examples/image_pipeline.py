"""A pipeline of dependent jobs: every image becomes small and grey, and one sheet shows them all.

All jobs are submitted at once; those that wait refer to artifacts that are not there yet. The handlers are
those of `images.py`. Usage: python image_pipeline.py SHEET.png IMAGE...
"""

from __future__ import annotations

import mimetypes
import sys
from pathlib import Path

from switchyard.client import Client, Job


def artifact(job: Job, name: str) -> dict[str, object]:
    """A reference to an artifact of a job, in the place of a file's id."""
    return {"$result": {"job": job.id, "artifact": name}}


def main(sheet: Path, images: list[Path]) -> None:
    """Submit the pipeline, wait for its end and download the sheet."""
    with Client() as client:
        grey = []
        for image in images:
            media_type = mimetypes.guess_type(image.name)[0] or "application/octet-stream"
            file = client.upload(image, media_type=media_type)
            small = client.submit("thumbnail", {"file": file.id, "edge": 120})
            waiting = client.submit("grey", {"file": artifact(small, "thumbnail.png")}, depends_on=[small.id])
            grey.append(waiting)
        files = [artifact(job, "grey.png") for job in grey]
        last = client.submit(
            "contact-sheet", {"files": files, "columns": 2}, depends_on=[job.id for job in grey]
        )
        print(f"{len(images) * 2 + 1} jobs, the last is {last.id}")
        size = client.result(last.id)
        client.download(client.get(last.id).artifacts[0]["file"], sheet)
        print(f"{sheet}: {size['width']} x {size['height']}")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: python image_pipeline.py SHEET.png IMAGE...")
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
