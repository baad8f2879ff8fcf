"""The example of `docs/push.md` does what the page says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec

from switchyard.services.dispatch.push.any_json.options import JsonOptions, plan_of
from switchyard.services.dispatch.push.any_json.reading import remote_id_of, said
from switchyard.services.dispatch.push.forms import FORMS, check_options
from switchyard.services.dispatch.push.openai_options import OpenAIOptions
from switchyard.services.dispatch.push.report import Done, Running

PAGE = (Path(__file__).parents[3] / "docs" / "push.md").read_text()
EXAMPLES: dict[str, Any] = {
    name: json.loads(body) for name, body in re.findall(r"```json (\w+)\n(.*?)```", PAGE, re.DOTALL)
}


def test_the_example_is_sent_and_read_as_the_page_says() -> None:
    check_options("json", EXAMPLES["options"], ["draw"])
    plan = plan_of(msgspec.convert(EXAMPLES["options"], JsonOptions))
    values = {"payload": EXAMPLES["payload"], "task_id": "task-01a2", "job_id": "01a2", "kind": "draw"}
    assert plan.body.render(values) == EXAMPLES["body"]
    first = EXAMPLES["options"]["sample_answer"]
    assert isinstance(said(plan, first), Running)
    assert plan.poll is not None
    assert plan.poll.made({"remote_id": remote_id_of(plan, first)}) == "/v1/tasks/7"
    assert said(plan, EXAMPLES["answer"]) == Done(EXAMPLES["result"], usage={"gpu_seconds": 3.5})


def test_every_option_is_on_the_page() -> None:
    for struct in (JsonOptions, OpenAIOptions):
        for name in struct.__struct_fields__:
            assert f"`{name}`" in PAGE, name
    assert all(f"`{profile}`" in PAGE for profile in FORMS if profile != "cog")
