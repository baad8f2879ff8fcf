"""Converts the files it is given: `python runner.py ours|markitdown|pypdfium2`, in that converter's Python.

It first says which versions it has, then reads one request a line, and answers each with one line. It
imports nothing of the project but for `ours`, so that another environment can run it.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

Convert = Callable[[dict[str, Any]], dict[str, Any]]


def ours() -> tuple[str, Convert]:
    from switchyard.services.documents.convert import convert  # noqa: PLC0415 - not there for the others
    from switchyard.services.documents.ocr.machine.tesseract import installed  # noqa: PLC0415

    ocr = installed()

    def run(request: dict[str, Any]) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as directory:
            target = Path(directory) / "document.md"
            made = convert(
                {
                    "source": request["path"],
                    "directory": directory,
                    "formats": ["markdown"],
                    "name": Path(request["path"]).name,
                    "media_type": "",
                    "ocr": "auto",
                    "languages": request["languages"],
                    "page_breaks": False,
                    "max_pages": 10_000,
                },
                lambda _: None,
            )
            reported = {name: made[name] for name in ("pages", "warnings")}
            return {"markdown": target.read_text(encoding="utf-8"), **reported}

    return f"Switchyard {version('switchyard-jobs')}, tesseract {ocr.version if ocr else 'missing'}", run


def markitdown() -> tuple[str, Convert]:
    from markitdown import MarkItDown  # noqa: PLC0415 - only in an environment of its own

    converter = MarkItDown()
    return f"markitdown {version('markitdown')}", lambda request: {
        "markdown": converter.convert(request["path"]).text_content
    }


def pypdfium2() -> tuple[str, Convert]:
    import pypdfium2  # noqa: PLC0415 - the others do not need it

    def run(request: dict[str, Any]) -> dict[str, Any]:
        with pypdfium2.PdfDocument(request["path"]) as pdf:
            return {"markdown": "\n\n".join(page.get_textpage().get_text_range() for page in pdf)}

    return f"pypdfium2 {version('pypdfium2')}", run


def main() -> None:
    """Answer requests until there are no more."""
    answers = sys.stdout
    sys.stdout = sys.stderr  # what a library prints is no answer
    named, run = {"ours": ours, "markitdown": markitdown, "pypdfium2": pypdfium2}[sys.argv[1]]()
    print(json.dumps({"version": named}), file=answers, flush=True)
    for line in sys.stdin:
        started = time.perf_counter()
        try:
            answer = run(json.loads(line))
        except Exception as error:  # noqa: BLE001 - whatever a converter fails with is its result
            answer = {"markdown": "", "error": f"{type(error).__name__}: {error}"[:300]}
        answer["seconds"] = time.perf_counter() - started
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
