"""The node classes of the double: what they take, and what they do."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from PIL import Image, PngImagePlugin

Step = Callable[[int, int, "Image.Image | None"], Awaitable[None]]
CHECKPOINTS = ["base.safetensors", "other.ckpt"]
LORAS = ["a.safetensors"]
SAMPLERS = ["euler", "dpmpp_2m"]


class NodeError(Exception):
    """A node fails: as which Python type, and how its text reads."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Place(Protocol):
    """Where a node finds what the server has."""

    root: Path

    def counter(self) -> int:
        """The next number of a file's name."""

    async def step(self, value: int, most: int, image: Image.Image | None) -> None:
        """One step is done; raises where the prompt was interrupted."""


@dataclass
class Made:
    """What a node gives: values for its outputs, and what it shows."""

    values: tuple[Any, ...] = ()
    ui: dict[str, Any] = field(default_factory=dict)


def _int(least: int = 0, most: int = 16384, default: int = 1) -> list[Any]:
    return ["INT", {"default": default, "min": least, "max": most}]


def _info(
    name: str, required: dict[str, Any], output: list[str], *, is_output: bool = False, package: str = "nodes"
) -> dict[str, Any]:
    return {
        "input": {"required": required, "hidden": {"prompt": "PROMPT"}}
        if is_output
        else {"required": required},
        "input_order": {"required": list(required)},
        "output": output,
        "output_is_list": [False] * len(output),
        "output_name": output,
        "name": name,
        "display_name": name,
        "description": "",
        "python_module": package,
        "category": "double",
        "output_node": is_output,
    }


OWN = "custom_nodes.switchyard_nodes"
INFO: dict[str, dict[str, Any]] = {
    each["name"]: each
    for each in (
        _info(
            "EmptyImage",
            {"width": _int(1, default=512), "height": _int(1, default=512), "batch_size": _int(1, 4096),
             "color": _int(0, 0xFFFFFF, 0)},
            ["IMAGE"],
        ),
        _info(
            "ImageScale",
            {"image": ["IMAGE"], "upscale_method": [["nearest-exact", "bilinear", "area", "lanczos"]],
             "width": _int(), "height": _int(), "crop": [["disabled", "center"]]},
            ["IMAGE"],
        ),
        _info("SaveImage", {"images": ["IMAGE"], "filename_prefix": ["STRING", {}]}, [], is_output=True),
        _info("PreviewImage", {"images": ["IMAGE"]}, [], is_output=True),
        _info("LoadImage", {"image": [[], {"image_upload": True}]}, ["IMAGE", "MASK"]),
        _info("CheckpointLoaderSimple", {"ckpt_name": [CHECKPOINTS]}, ["MODEL", "CLIP", "VAE"]),
        _info(
            "KSampler",
            {"model": ["MODEL"], "steps": _int(1, 10000), "sampler_name": [SAMPLERS],
             "scheduler": [["simple", "normal"]]},
            ["LATENT"],
        ),
        _info(
            "SwitchyardSlow",
            {"image": ["IMAGE"], "steps": _int(1, 10000), "step_ms": _int(0, 60000, 10),
             "previews": ["BOOLEAN", {}]},
            ["IMAGE"], package=OWN,
        ),
        _info("SwitchyardError", {"image": ["IMAGE"], "message": ["STRING", {}]}, ["IMAGE"], package=OWN),
        _info("SwitchyardOOM", {"image": ["IMAGE"]}, ["IMAGE"], package=OWN),
        _info("SwitchyardText", {"text": ["STRING", {}]}, [], is_output=True, package=OWN),
    )
}  # fmt: skip


def jpeg(image: Image.Image) -> bytes:
    """A preview."""
    data = io.BytesIO()
    image.convert("RGB").resize((16, 16)).save(data, "JPEG")
    return data.getvalue()


def _save(place: Place, images: list[Image.Image], prefix: str, where: str) -> dict[str, Any]:
    subfolder, _, stem = prefix.rpartition("/")
    folder = place.root / where / subfolder
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    texts = PngImagePlugin.PngInfo()
    texts.add_text("prompt", "{}")  # as it writes the graph
    for image in images:
        name = f"{stem}_{place.counter():05}_.png"
        image.save(folder / name, pnginfo=texts)
        found.append({"filename": name, "subfolder": subfolder, "type": where})
    return {"images": found}


async def run(place: Place, class_type: str, given: dict[str, Any]) -> Made:
    """Run a node."""
    match class_type:
        case "EmptyImage":
            colour = given["color"]
            rgb = (colour >> 16 & 255, colour >> 8 & 255, colour & 255)
            return Made(([Image.new("RGB", (given["width"], given["height"]), rgb)] * given["batch_size"],))
        case "ImageScale":
            return Made(([each.resize((given["width"], given["height"])) for each in given["image"]],))
        case "SaveImage":
            return Made((), _save(place, given["images"], given["filename_prefix"], "output"))
        case "PreviewImage":
            return Made((), _save(place, given["images"], "preview", "temp"))
        case "LoadImage":
            with Image.open(place.root / "input" / given["image"]) as image:
                return Made(([image.convert("RGB")], None))
        case "SwitchyardSlow":
            for step in range(given["steps"]):
                await place.step(step + 1, given["steps"], given["image"][0] if given["previews"] else None)
            return Made((given["image"],))
        case "SwitchyardError":
            raise NodeError("ValueError", given["message"])
        case "SwitchyardOOM":
            advice = "This error means you ran out of memory on your GPU.\n\nTIPS: reduce the batch size."
            raise NodeError("torch.OutOfMemoryError", f"Allocation on device 0 failed.\n{advice}")
        case "SwitchyardText":
            return Made((), {"text": [given["text"]]})
        case _:
            return Made(tuple(None for _ in INFO[class_type]["output"]))


# --- Validation


def _error(kind: str, message: str, details: str, **extra: Any) -> dict[str, Any]:
    return {"type": kind, "message": message, "details": details, "extra_info": extra}


def faults_of(prompt: dict[str, Any], node_id: str, inputs: Path) -> list[dict[str, Any]]:
    """What is wrong with the inputs of a node."""
    node = prompt[node_id]
    found = []
    for name, spec in INFO[node["class_type"]]["input"]["required"].items():
        if name not in node["inputs"]:
            found.append(_error("required_input_missing", "Required input is missing", name, input_name=name))
            continue
        value = node["inputs"][name]
        fault = (
            _fault_of_link(prompt, name, value, spec)
            if isinstance(value, list)
            else _fault_of(node["class_type"], name, value, spec, inputs)
        )
        if fault is not None:
            found.append(fault)
    return found


def _fault_of_link(
    prompt: dict[str, Any], name: str, value: list[Any], spec: list[Any]
) -> dict[str, Any] | None:
    try:
        received = INFO[prompt[value[0]]["class_type"]]["output"][value[1]]
    except LookupError as error:
        traceback = ['  File "/home/gpu/ComfyUI/execution.py", line 1, in validate_inputs\n']
        return _error(
            "exception_during_validation", "Exception when validating node", str(error),
            exception_type=type(error).__name__, traceback=traceback,
        )  # fmt: skip
    if received == spec[0]:
        return None
    said = f"{name}, received_type({received}) mismatch input_type({spec[0]})"
    return _error(
        "return_type_mismatch", "Return type mismatch between linked nodes", said,
        input_name=name, input_config=spec, received_type=received, linked_node=value,
    )  # fmt: skip


def _fault_of(class_type: str, name: str, value: Any, spec: list[Any], inputs: Path) -> dict[str, Any] | None:
    kind, options = spec[0], spec[1] if len(spec) > 1 else {}
    about = {"input_name": name, "input_config": spec, "received_value": value}
    if kind == "INT":
        if isinstance(value, bool) or not isinstance(value, int):
            why = f"invalid literal for int() with base 10: {value!r} at /home/gpu/ComfyUI/execution.py"
            said = "Failed to convert an input value to a INT value"
            return _error(
                "invalid_input_type", said, f"{name}, {value}, {why}", exception_message=why, **about
            )
        if value < options["min"]:
            said = f"Value {value} smaller than min of {options['min']}"
            return _error("value_smaller_than_min", said, name, **about)
        if value > options["max"]:
            return _error(
                "value_bigger_than_max", f"Value {value} bigger than max of {options['max']}", name, **about
            )
    elif class_type == "LoadImage":
        if not (inputs / str(value)).is_file():
            said = f"image - Invalid image file: {value}"
            return _error(
                "custom_validation_failed", "Custom validation failed for node", said, input_name=name
            )
    elif isinstance(kind, list) and value not in kind:
        return _error("value_not_in_list", "Value not in list", f"{name}: '{value}' not in {kind}", **about)
    return None
