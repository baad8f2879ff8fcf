from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchyard.services.connectors.comfyui.health import Health
from switchyard.services.connectors.comfyui.progress import Progress
from switchyard.services.connectors.comfyui.wording import CHARS, cleaned, failure_of, faults_of, refusal_of
from tests.connectors.comfyui.graphs import scaled

JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.sampled_from(("1", "2", "p", "x")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
EVENTS = st.sampled_from(
    ("execution_start", "execution_cached", "executing", "progress", "progress_state", "executed", "status")
)
FRAMES = st.fixed_dictionaries(
    {
        "type": EVENTS | JSON,
        "data": st.fixed_dictionaries(
            {},
            optional={
                "prompt_id": st.just("p") | JSON, "node": JSON, "nodes": JSON, "value": JSON, "max": JSON,
                "output": JSON,
            },
        ) | JSON,
    }
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("cannot read /srv/models/a/x.bin here", "cannot read x.bin here"),
        ("in C:\\Users\\me\\ComfyUI\\a.py", "in a.py"),
        ("at '~/comfy/custom_nodes/a.py'", "at 'a.py'"),
        ("1/2 of it, and/or more", "1/2 of it, and/or more"),
        ('no\nTraceback (most recent call last):\n  File "/a/b.py", line 3, in f\n    f()', "no"),
        ("x" * 5000, "x" * (CHARS - 1) + "…"),
        ("\n" * 10_000, ""),
        (None, ""),
    ],
)
def test_texts_are_without_paths_and_tracebacks(text: Any, plain: str) -> None:
    assert cleaned(text) == plain


@given(JSON)
def test_answers_of_any_shape_are_read(answer: Any) -> None:
    graph = scaled(1)
    assert all(isinstance(part, str) for part in refusal_of(answer, graph))
    assert failure_of(answer, graph).out_of_memory is False
    assert isinstance(faults_of(answer, graph), list)
    assert isinstance(faults_of({"1": {"errors": [answer]}}, graph), list)


@given(st.lists(FRAMES, max_size=12))
def test_frames_of_any_shape_never_lower_the_fraction(frames: list[Any]) -> None:
    progress = Progress("p", scaled(1))
    before = 0.0
    for number, frame in enumerate(frames):
        progress.take(frame, float(number))
        report = progress.report(float(number))
        assert before <= report.fraction <= 1
        before = report.fraction


@given(st.binary(max_size=64), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_binary_frames_of_any_shape_are_read(data: bytes, event: int, second: int) -> None:
    progress = Progress("p", scaled(1))
    for kind in (1, 4, event):
        assert progress.preview(struct.pack(">II", kind, second) + data) is None
    assert progress.preview(data[:7]) is None


def test_nodes_out_of_the_cache_do_not_count() -> None:
    progress = Progress("p", scaled(1), ("3",))
    progress.take({"type": "execution_start", "data": {"prompt_id": "p"}}, 0.0)
    progress.take({"type": "execution_cached", "data": {"prompt_id": "p", "nodes": ["1"]}}, 0.0)
    progress.take({"type": "executing", "data": {"prompt_id": "p", "node": "2"}}, 1.0)
    progress.take({"type": "progress", "data": {"prompt_id": "p", "node": "2", "value": 5, "max": 10}}, 2.0)
    report = progress.report(2.0)
    assert (report.fraction, report.stage, report.message) == (
        0.25,
        "ImageScale",
        "node 1 of 2, step 5 of 10",
    )
    assert report.eta_s == 6.0


class Clock:
    now_s = 0.0


def state(health: Health) -> str:
    return health.state


def test_a_trial_that_fails_is_followed_by_longer_pauses() -> None:
    clock, changes = Clock(), list[str]()
    health = Health(7.0, lambda: changes.append(health.state), lambda: clock.now_s)
    assert health.slots(4) == 4
    health.is_well()
    health.is_missed("gone", refused=True)
    assert state(health) == "up"
    health.is_missed("gone", refused=True)
    assert (state(health), health.slots(4)) == ("down", 0)
    for pause_s in (0, 5, 10):
        clock.now_s += pause_s
        health.is_well()
        assert (state(health), health.slots(4)) == ("trial", 1)
        health.has_failed("lost it")
        health.is_well()
        assert state(health) == "down"
    clock.now_s += 60
    health.is_well()
    health.has_worked()
    assert (state(health), health.slots(4)) == ("up", 4)


def test_a_server_that_is_slow_is_not_down_before_its_time() -> None:
    clock = Clock()
    health = Health(7.0, lambda: None, lambda: clock.now_s)
    health.is_well()
    clock.now_s = 6.9
    health.is_missed("slow", refused=False)
    assert state(health) == "up"
    clock.now_s = 7.1
    health.is_missed("slow", refused=False)
    assert state(health) == "down"


def test_what_a_server_lists_does_not_show_where_files_of_tenants_are() -> None:
    listed = "folder: 'x' not in ['switchyard-inputs/0a1b2c', 'switchyard-inputs\\\\ff/0']"
    assert "0a1b" not in cleaned(listed)
    assert "ff" not in cleaned(listed).replace("folder", "")
