"""Runs a converter over documents and measures what that took."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import psutil

from benchmarks.score.corpus import Document
from benchmarks.score.measures import Scores, score

ROOT: Final = Path(__file__).parents[2]
RUNNER: Final = Path(__file__).with_name("runner.py")
MARKITDOWN: Final = ROOT / ".tools" / "markitdown" / "bin" / "python"
SAMPLE_EVERY_S: Final = 0.01


@dataclass(frozen=True, slots=True)
class Result:
    """What a converter made of one document."""

    document: Document
    markdown: str
    scores: Scores
    seconds: float
    pages: int | None
    error: str | None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """What a converter made of the documents of one category.

    Args:
        peak_bytes: the resident memory of the process and all it started, at its highest.
    """

    converter: str
    version: str
    results: list[Result]
    peak_bytes: int


def available() -> list[str]:
    """The converters that can be run here, ours first."""
    return ["ours", *(["markitdown"] if MARKITDOWN.exists() else []), "pypdfium2"]


def reads(converter: str, category: str) -> bool:
    """Whether it makes sense to ask the converter for documents of the category."""
    return converter != "pypdfium2" or category in {"pdf", "ocr"}


def run(converter: str, documents: list[Document]) -> Run:
    """Convert the documents one after the other in a process of their own.

    The first is converted twice and its first time not counted, which loads what is loaded when needed.
    """
    python = str(MARKITDOWN) if converter == "markitdown" else sys.executable
    process = subprocess.Popen(
        [python, str(RUNNER), converter],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT) if converter == "ours" else "", "OMP_THREAD_LIMIT": "1"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process, _Memory(process.pid) as memory:
        version = json.loads(process.stdout.readline())["version"]
        results = []
        for document in [*documents[:1], *documents]:
            request = {"path": str(document.path), "languages": document.languages}
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
            results.append(
                Result(
                    document,
                    answer["markdown"],
                    score(document.wanted(), answer["markdown"]),
                    answer["seconds"],
                    answer.get("pages"),
                    answer.get("error"),
                    tuple(answer.get("warnings", ())),
                )
            )
        process.stdin.close()
    return Run(converter, version, results[1:], memory.peak_bytes)


class _Memory(threading.Thread):
    """Watches the resident memory of a process and those it started."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._process = psutil.Process(pid)
        self._ended = threading.Event()
        self.peak_bytes = 0

    def run(self) -> None:
        while not self._ended.wait(SAMPLE_EVERY_S):
            with contextlib.suppress(psutil.Error):
                family = [self._process, *self._process.children(recursive=True)]
                self.peak_bytes = max(self.peak_bytes, sum(_resident(member) for member in family))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:  # it has ended
        return 0
