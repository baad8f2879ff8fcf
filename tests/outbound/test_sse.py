"""Server-sent events: as the standard says, however they are cut, and never more than the bounds."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchyard.services.outbound.sse import EventReader, ServerEvent, StreamFaultError, StreamTooLargeError


def read(*chunks: bytes, most_bytes: int = 1000, total_bytes: int = 10_000) -> list[ServerEvent]:
    reader = EventReader(most_bytes=most_bytes, total_bytes=total_bytes)
    return [event for chunk in chunks for event in reader.feed(chunk)]


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (b"data: a\n\n", [("message", "a")]), (b"data:a\r\n\r\n", [("message", "a")]),
        (b"data: a\r\rdata:  b\r\r", [("message", "a"), ("message", " b")]),
        (b"event: error\ndata: x\ndata: y\n\n", [("error", "x\ny")]), (b": note\n\n", []),
        (b"data\n\n", [("message", "")]), (b"event: x\n\ndata: y\n\n", [("message", "y")]),
        (b"\xef\xbb\xbfdata: a\n\n", [("message", "a")]), (b"data: a\n", []), (b"data: a", []),
        (b"id: 1\nretry: 5\nodd\ndata: a\n\n", [("message", "a")]), (b"", []), (b"\n\n\n", []),
        ("data: ü\n\n".encode(), [("message", "ü")]),
    ],
)  # fmt: skip
def test_events_are_read_as_the_standard_says(body: bytes, wanted: list[tuple[str, str]]) -> None:
    assert read(body) == wanted
    assert read(*(body[at : at + 1] for at in range(len(body)))) == wanted


@given(
    st.lists(st.sampled_from([b"data: x", b"data:", b":c", b"event: e", b"\n", b"\r", b"\r\n", b"\xc3\xbc"])),
    st.lists(st.integers(0, 60)),
)
def test_how_it_is_cut_changes_nothing(parts: list[bytes], cuts: list[int]) -> None:
    body = b"".join(parts)
    places = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    chunks = [body[start:end] for start, end in itertools.pairwise(places)]
    assert read(*chunks) == read(body)


@pytest.mark.parametrize(
    "chunks",
    [
        [b"data: " + b"x" * 2000], [b"x"] * 2000, [b"data: " + b"x" * 400 + b"\n"] * 4, [b":\n"] * 6000,
        [b"data: x\n\n"] * 2000,
    ],
)  # fmt: skip
def test_nothing_is_larger_than_the_bounds(chunks: list[bytes]) -> None:
    with pytest.raises(StreamTooLargeError):
        read(*chunks)


def test_what_is_no_text_is_a_fault() -> None:
    with pytest.raises(StreamFaultError):
        read(b"data: \xff\n\n")
