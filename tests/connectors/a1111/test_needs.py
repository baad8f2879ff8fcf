"""What a payload needs of the server that does it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchyard.events.requirements.matching import canonical, explain, matches, score
from switchyard.services.connectors.a1111.names import base, loras_of, plain
from switchyard.services.connectors.derived.a1111 import needs_of
from switchyard.services.connectors.registry import derives, in_words
from switchyard.services.intake.placing import WIDE

PAYLOAD: dict[str, Any] = {
    "prompt": "a cat <lora:style:0.8> <LoRA:sub/other.safetensors:1:0.5>, <hypernet:x:1>",
    "negative_prompt": "<lora:style:0.1>",
    "override_settings": {"sd_model_checkpoint": "xl\\dream.safetensors [31e35c80fc]", "sd_vae": "vae.pt"},
    "script_name": "X/Y/Z plot",
    "alwayson_scripts": {"ControlNet": {}},
    "enable_hr": True,
    "hr_upscaler": "R-ESRGAN 4x+",
}
HAS: dict[str, Any] = {
    "a1111": {
        "checkpoints": ["31e35c80fc", "dream", "xl/dream", "xl_dream"],
        "loras": ["other", "style"],
        "vaes": ["vae"],
        "scripts": ["controlnet", "x/y/z plot"],
        "upscalers": ["R-ESRGAN 4x+"],
        "loaded": ["31e35c80fc", "dream", "xl/dream", "xl_dream"],
    }
}


def required(payload: dict[str, Any]) -> Any:
    needs = needs_of(payload)
    parts = [*needs.requires, *needs.files]
    return canonical({"$and": parts} if parts else {}, field="payload", limits=WIDE)


def lacking(path: str) -> dict[str, Any]:
    return {"a1111": {**HAS["a1111"], path: []}}


def test_it_goes_to_a_server_that_has_all_of_it() -> None:
    assert derives("a1111")
    assert matches(required(PAYLOAD), HAS)
    for path in ("checkpoints", "loras", "vaes", "scripts", "upscalers"):
        assert not matches(required(PAYLOAD), lacking(path)), path
    assert not matches(required(PAYLOAD), {})


def test_its_checkpoint_is_preferred_where_it_is_loaded() -> None:
    prefers = canonical(dict(needs_of(PAYLOAD).prefers), field="prefers")
    assert score(prefers, HAS) < score(prefers, lacking("loaded"))


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("checkpoints", "the checkpoint xl/dream"),
        ("loras", "the LoRAs other, style"),
        ("vaes", "the VAE vae"),
        ("scripts", "the scripts controlnet, x/y/z plot"),
        ("upscalers", "the upscaler R-ESRGAN 4x+"),
    ],
)
def test_what_a_server_lacks_is_named(path: str, words: str) -> None:
    (clause,) = explain(required(PAYLOAD), lacking(path))
    assert in_words("a1111", clause).message == f"it lacks {words}"


@pytest.mark.parametrize(
    "name",
    [
        "31e35c80fc",
        "dream",
        "xl/dream",
        "xl_dream",
        "xl/dream.safetensors",
        "xl/dream.safetensors [31e35c80fc]",
    ],
)
def test_a_checkpoint_may_go_by_any_of_its_names(name: str) -> None:
    assert matches(required({"override_settings": {"sd_model_checkpoint": name}}), HAS)


def test_what_names_nothing_needs_nothing() -> None:
    for payload in (
        {}, {"prompt": "a cat"}, {"override_settings": {"sd_vae": "Automatic", "sd_model_checkpoint": ""}},
        {"upscaler_1": "None"}, {"hr_upscaler": "Magic"},
        {"enable_hr": True, "hr_upscaler": "Latent (bicubic)"},
        {"refiner_checkpoint": "None"},
    ):  # fmt: skip
        assert needs_of(payload).is_empty, payload


def test_forge_names_modules() -> None:
    payload = {
        "override_settings": {"forge_additional_modules": ["/srv/VAE/ae.safetensors", "clip_l.sft", 1]}
    }
    assert needs_of(payload).files == ({"a1111.vaes": {"$all": ["ae", "clip_l"]}},)


def test_names_are_made_alike() -> None:
    assert plain("a\\b.ckpt [0123abcd45]") == "a/b"
    assert plain("v1.5-pruned") == "v1.5-pruned"
    assert base("/x/y.safetensors") == "y"
    assert plain(7) == ""
    assert loras_of({"prompt": "<lora::1> <lora:a:1"}) == ()


@given(
    st.dictionaries(
        st.sampled_from([*PAYLOAD, "upscaler_1", "refiner_checkpoint", "hr_checkpoint_name"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(), each, max_size=3),
        ),
    )
)
def test_payloads_of_any_form_are_looked_at(payload: dict[str, Any]) -> None:
    required(payload)
