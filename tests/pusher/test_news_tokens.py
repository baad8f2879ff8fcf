"""Tokens are shown in few pieces that are, joined, the text."""

from __future__ import annotations

from typing import Any

from switchyard.services.pusher.profiles.news import TEXT_CHARS, TEXT_S, News
from switchyard.services.settings import Settings


class _Job:
    id = "j"
    lease = None
    attempt = 1
    tenant = "t"
    kind = "k"
    parent = ""
    erasable = False


class _Reporter:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, _: str, line: dict[str, Any], *, always: bool = False) -> bool:
        assert not always
        self.lines.append(line["line"])
        return True

    def forget(self, _: str) -> None:
        pass


def test_tokens_come_a_few_times_a_second_and_nothing_of_them_is_lost() -> None:
    now_s = 0.0
    reporter: Any = _Reporter()
    job: Any = _Job()
    news = News(reporter, job, Settings(), lambda: now_s)
    text = "".join(f"word {n}\n" if n % 3 else f"word {n} " for n in range(100))
    for at in range(0, len(text), 2):
        now_s += TEXT_S / 8
        news.tokens(text[at : at + 2])
    news.tokens("x" * (3 * TEXT_CHARS))
    news.close()
    assert "".join(reporter.lines) == text + "x" * (3 * TEXT_CHARS)
    assert len(reporter.lines) <= len(text) / 16 + 6
    assert max(map(len, reporter.lines)) <= TEXT_CHARS
