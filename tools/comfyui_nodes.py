"""Nodes for a ComfyUI that is tested: slow steps with previews, errors, a lack of memory, and a text.

Copy this file into its `custom_nodes`; `python -m tools.check_comfyui URL` uses them.
"""

from __future__ import annotations

import time
from typing import Any


def _image_and(**inputs: Any) -> dict[str, Any]:
    return {"required": {"image": ("IMAGE",), **inputs}}


class SwitchyardSlow:
    """Hands an image on after some steps."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "switchyard"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - as ComfyUI calls it
        """What it takes."""
        return _image_and(
            steps=("INT", {"default": 10, "min": 1, "max": 10000}),
            step_ms=("INT", {"default": 10, "min": 0, "max": 60000}),
            previews=("BOOLEAN", {"default": False}),
        )

    def run(self, image: Any, steps: int, step_ms: int, previews: bool) -> tuple[Any]:  # noqa: FBT001
        """Take the steps; each may be interrupted."""
        import comfy.model_management  # noqa: PLC0415 - only a ComfyUI has these
        import comfy.utils  # noqa: PLC0415
        from PIL import Image  # noqa: PLC0415

        bar = comfy.utils.ProgressBar(steps)
        for step in range(steps):
            time.sleep(step_ms / 1000)
            comfy.model_management.throw_exception_if_processing_interrupted()
            shown = None
            if previews:
                pixels = (255 * image[0].cpu().numpy()).astype("uint8")
                shown = ("JPEG", Image.fromarray(pixels), 64)
            bar.update_absolute(step + 1, steps, shown)
        return (image,)


class SwitchyardError:
    """Fails with a message."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "switchyard"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        """What it takes."""
        return _image_and(message=("STRING", {"default": "failed"}))

    def run(self, image: Any, message: str) -> tuple[Any]:  # noqa: ARG002
        """Fail."""
        raise ValueError(message)


class SwitchyardOOM:
    """Fails as a device does that has too little memory."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "switchyard"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        """What it takes."""
        return _image_and()

    def run(self, image: Any) -> tuple[Any]:  # noqa: ARG002
        """Fail."""
        import torch  # noqa: PLC0415

        raise torch.OutOfMemoryError("Allocation on device 0 would exceed allowed memory. (out of memory)")


class SwitchyardText:
    """Shows a text."""

    RETURN_TYPES = ()
    FUNCTION = "run"
    CATEGORY = "switchyard"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        """What it takes."""
        return {"required": {"text": ("STRING", {"default": ""})}}

    def run(self, text: str) -> dict[str, Any]:
        """Show it."""
        return {"ui": {"text": [text]}}


NODE_CLASS_MAPPINGS = {
    node.__name__: node for node in (SwitchyardSlow, SwitchyardError, SwitchyardOOM, SwitchyardText)
}
