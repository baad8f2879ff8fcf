"""The payload of the kind `a1111`: a task, and the parameters that the server's own API has for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

import orjson
import pydantic
from pydantic import Field

from switchyard.services.connectors.payload import FileId, Payload

Task = Literal["txt2img", "img2img", "inpaint", "upscale", "interrogate"]
IMAGES: Final = 16
FILES: Final = 32
SCRIPT_BYTES: Final = 1024**2
TEXT_CHARS: Final = 65_536
Text = Annotated[str, Field(max_length=TEXT_CHARS)]
Name = Annotated[str, Field(min_length=1, max_length=255)]
Side = Annotated[int, Field(ge=16, le=16_384)]
Steps = Annotated[int, Field(ge=1, le=1_000)]
Part = Annotated[float, Field(ge=0, le=1)]
Number = Annotated[float, Field(ge=-1e6, le=1e6)]
Count = Annotated[int, Field(ge=0, le=1_000_000)]
Seed = Annotated[int, Field(ge=-1, le=2**63 - 1)]

INPUTS: Final = frozenset({"task", "init_images", "mask", "image", "files", "more"})
"""Fields that are not sent as they are."""
OURS: Final = frozenset({"force_task_id", "send_images", "save_images", "init_images", "mask", "image"})
"""Fields of the server's API that the connector sets."""

SAMPLED: Final = ("txt2img", "img2img", "inpaint")
FROM_IMAGES: Final = frozenset(
    {"init_images", "resize_mode", "image_cfg_scale", "initial_noise_multiplier", "include_init_images"}
)
OF_MASKS: Final = frozenset(
    {
        "mask", "mask_blur", "mask_blur_x", "mask_blur_y", "mask_round", "inpainting_fill",
        "inpaint_full_res", "inpaint_full_res_padding", "inpainting_mask_invert",
    }
)  # fmt: skip
OF_SECOND_PASS: Final = frozenset(
    {
        "enable_hr", "hr_scale", "hr_upscaler", "hr_second_pass_steps", "hr_resize_x", "hr_resize_y",
        "hr_checkpoint_name", "hr_sampler_name", "hr_scheduler", "hr_prompt", "hr_negative_prompt", "hr_cfg",
        "hr_distilled_cfg", "hr_additional_modules",
    }
)  # fmt: skip
OF_UPSCALING: Final = frozenset(
    {
        "resize_mode", "upscaling_resize", "upscaling_resize_w", "upscaling_resize_h", "upscaling_crop",
        "upscaler_1", "upscaler_2", "extras_upscaler_2_visibility", "upscale_first", "gfpgan_visibility",
        "codeformer_visibility", "codeformer_weight",
    }
)  # fmt: skip


class A1111Payload(Payload):
    """What to do. Names and meanings are those of `/docs` of the server, which knows what is left out.

    Args:
        task: `inpaint` is `img2img` with a mask.
        init_images, mask, image: stored files, which the server is given.
        files: stored files by the name that an argument of a script has for them.
        more: parameters that builds of the server have beyond these.
    """

    task: Task = "txt2img"

    init_images: Annotated[list[FileId], Field(min_length=1, max_length=IMAGES)] | None = None
    mask: FileId | None = None
    image: FileId | None = None
    files: Annotated[dict[Name, FileId], Field(max_length=FILES, default_factory=dict)]

    prompt: Text | None = None
    negative_prompt: Text | None = None
    styles: Annotated[list[Name], Field(max_length=100)] | None = None
    seed: Seed | None = None
    subseed: Seed | None = None
    subseed_strength: Number | None = None
    seed_resize_from_h: Annotated[int, Field(ge=-1, le=16_384)] | None = None
    seed_resize_from_w: Annotated[int, Field(ge=-1, le=16_384)] | None = None
    sampler_name: Name | None = None
    sampler_index: Name | None = None
    scheduler: Name | None = None
    batch_size: Annotated[int, Field(ge=1, le=64)] | None = None
    n_iter: Annotated[int, Field(ge=1, le=100)] | None = None
    steps: Steps | None = None
    cfg_scale: Number | None = None
    distilled_cfg_scale: Number | None = None
    width: Side | None = None
    height: Side | None = None
    restore_faces: bool | None = None
    tiling: bool | None = None
    denoising_strength: Part | None = None
    eta: Number | None = None
    s_min_uncond: Number | None = None
    s_churn: Number | None = None
    s_tmax: Number | None = None
    s_tmin: Number | None = None
    s_noise: Number | None = None
    override_settings: dict[Name, Any] | None = None
    override_settings_restore_afterwards: bool | None = None
    refiner_checkpoint: Name | None = None
    refiner_switch_at: Part | None = None
    script_name: Name | None = None
    script_args: list[Any] | None = None
    alwayson_scripts: dict[Name, Any] | None = None
    infotext: Text | None = None

    enable_hr: bool | None = None
    hr_scale: Annotated[float, Field(ge=1, le=16)] | None = None
    hr_upscaler: Name | None = None
    hr_second_pass_steps: Annotated[int, Field(ge=0, le=1_000)] | None = None
    hr_resize_x: Annotated[int, Field(ge=0, le=16_384)] | None = None
    hr_resize_y: Annotated[int, Field(ge=0, le=16_384)] | None = None
    hr_checkpoint_name: Name | None = None
    hr_sampler_name: Name | None = None
    hr_scheduler: Name | None = None
    hr_prompt: Text | None = None
    hr_negative_prompt: Text | None = None
    hr_cfg: Number | None = None
    hr_distilled_cfg: Number | None = None
    hr_additional_modules: Annotated[list[Name], Field(max_length=20)] | None = None

    resize_mode: Annotated[int, Field(ge=0, le=3)] | None = None
    image_cfg_scale: Number | None = None
    initial_noise_multiplier: Number | None = None
    include_init_images: bool | None = None
    mask_blur: Count | None = None
    mask_blur_x: Count | None = None
    mask_blur_y: Count | None = None
    mask_round: bool | None = None
    inpainting_fill: Annotated[int, Field(ge=0, le=3)] | None = None
    inpaint_full_res: bool | None = None
    inpaint_full_res_padding: Count | None = None
    inpainting_mask_invert: Annotated[int, Field(ge=0, le=1)] | None = None

    upscaling_resize: Annotated[float, Field(gt=0, le=16)] | None = None
    upscaling_resize_w: Side | None = None
    upscaling_resize_h: Side | None = None
    upscaling_crop: bool | None = None
    upscaler_1: Name | None = None
    upscaler_2: Name | None = None
    extras_upscaler_2_visibility: Part | None = None
    upscale_first: bool | None = None
    gfpgan_visibility: Part | None = None
    codeformer_visibility: Part | None = None
    codeformer_weight: Part | None = None

    model: Name | None = None
    more: Annotated[dict[Name, Any], Field(max_length=100)] | None = None

    @pydantic.model_validator(mode="after")
    def _fits(self) -> A1111Payload:
        for name in self.model_fields_set:
            if getattr(self, name) is not None and not self._takes(name):
                raise ValueError(f"{name}: the task {self.task} has no such parameter")
        for name in self._needed():
            if getattr(self, name) is None:
                raise ValueError(f"{name}: the task {self.task} needs it")
        if clash := [name for name in self.more or () if name in OURS or name in type(self).model_fields]:
            raise ValueError(f"more: {clash[0]} is no parameter that may stand there")
        try:
            size = len(orjson.dumps(self._open()))
        except (TypeError, RecursionError) as error:
            raise ValueError(f"alwayson_scripts: {error}") from None
        if size > SCRIPT_BYTES:
            raise ValueError(f"scripts and settings: at most {SCRIPT_BYTES} bytes as JSON")
        texts = set(texts_in(self._open())) if self.files else set()
        if unused := [name for name in self.files if name not in texts]:
            raise ValueError(f"files: no argument of a script is {unused[0]!r}")
        return self

    def _takes(self, name: str) -> bool:
        if name in ("task", "more"):
            return True
        if self.task == "interrogate":
            return name in ("image", "model")
        if self.task == "upscale":
            return name == "image" or name in OF_UPSCALING
        if name in FROM_IMAGES:
            return self.task != "txt2img"
        if name in OF_MASKS:
            return self.task == "inpaint"
        if name in OF_SECOND_PASS:
            return self.task == "txt2img"
        return name not in OF_UPSCALING and name not in ("image", "model")

    def _needed(self) -> tuple[str, ...]:
        needed: dict[str, tuple[str, ...]] = {
            "txt2img": (), "img2img": ("init_images",), "inpaint": ("init_images", "mask"),
            "upscale": ("image",), "interrogate": ("image",),
        }  # fmt: skip
        return needed[self.task]

    def _open(self) -> list[Any]:
        """The parameters of any form."""
        return [self.script_args, self.alwayson_scripts, self.override_settings, self.more]

    def parameters(self) -> dict[str, Any]:
        """What is sent beside images: what was said, and nothing else."""
        said = {
            name: value
            for name in type(self).model_fields
            if name not in INPUTS and name in self.model_fields_set
            if (value := getattr(self, name)) is not None
        }
        return said | (self.more or {})

    @property
    def images(self) -> int | None:
        """How many images are to be made; None where a script or an infotext decides."""
        if self.task not in SAMPLED:
            return 0 if self.task == "interrogate" else 1
        if self.script_name is not None or self.infotext is not None:
            return None
        return (self.batch_size or 1) * (self.n_iter or 1)


def texts_in(value: Any) -> Iterator[str]:
    """All texts within a value."""
    waiting = [value]
    while waiting:
        match waiting.pop():
            case str() as text:
                yield text
            case dict() as mapping:
                waiting += mapping.values()
            case list() as items:
                waiting += items
