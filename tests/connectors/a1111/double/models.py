"""What the double has, and what its requests look like."""

from __future__ import annotations

from typing import Any

import pydantic

CHECKPOINTS = [
    {
        "title": "v1-5-pruned.safetensors [6ce0161689]", "model_name": "v1-5-pruned", "hash": "6ce0161689",
        "sha256": None, "filename": "/srv/models/Stable-diffusion/v1-5-pruned.safetensors", "config": None,
    },
    {
        "title": "xl/dream.safetensors [31e35c80fc]", "model_name": "xl_dream", "hash": "31e35c80fc",
        "sha256": None, "filename": "/srv/models/Stable-diffusion/xl/dream.safetensors", "config": None,
    },
]  # fmt: skip
VAES = [{"model_name": "vae-ft-mse.safetensors", "filename": "/srv/models/VAE/vae-ft-mse.safetensors"}]
LORAS = [
    {"name": "style", "alias": "nice_style", "path": "/srv/models/Lora/style.safetensors", "metadata": {}}
]
SAMPLERS = [
    {"name": "Euler", "aliases": ["k_euler"], "options": {}},
    {"name": "Euler a", "aliases": ["k_euler_a"], "options": {}},
    {"name": "DPM++ 2M", "aliases": ["k_dpmpp_2m"], "options": {}},
]
SCHEDULERS = [
    {"name": "automatic", "label": "Automatic", "aliases": None},
    {"name": "karras", "label": "Karras"},
]
UPSCALERS = [
    {"name": name, "model_name": None, "model_path": None, "model_url": None, "scale": 4}
    for name in ("None", "Lanczos", "Nearest", "R-ESRGAN 4x+")
]
SCRIPTS = {"txt2img": ["x/y/z plot", "controlnet", "refiner"], "img2img": ["sd upscale", "controlnet"]}
SELECTABLE = ("x/y/z plot", "sd upscale")


class Generation(pydantic.BaseModel):
    """A request of txt2img or img2img; what it does not name is ignored, as there."""

    model_config = pydantic.ConfigDict(extra="ignore", protected_namespaces=())

    prompt: str | None = ""
    negative_prompt: str | None = ""
    seed: int | None = -1
    subseed: int | None = -1
    sampler_name: str | None = None
    sampler_index: str | None = None
    scheduler: str | None = None
    batch_size: int | None = 1
    n_iter: int | None = 1
    steps: int | None = 50
    cfg_scale: float | None = 7.0
    width: int | None = 512
    height: int | None = 512
    denoising_strength: float | None = None
    override_settings: dict[str, Any] | None = None
    script_name: str | None = None
    script_args: list[Any] | None = None
    alwayson_scripts: dict[str, Any] | None = None
    init_images: list[str] | None = None
    mask: str | None = None
    send_images: bool = True
    save_images: bool = False
    do_not_save_grid: bool = False
    force_task_id: str | None = None


class Upscaling(pydantic.BaseModel):
    """A request of extra-single-image."""

    model_config = pydantic.ConfigDict(extra="ignore")

    image: str = ""
    upscaling_resize: float = 2
    upscaler_1: str = "None"
    upscaler_2: str = "None"


class Interrogation(pydantic.BaseModel):
    """A request of interrogate."""

    image: str = ""
    model: str = "clip"
