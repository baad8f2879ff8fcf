"""A model for real Cog servers: it says its text again, a piece for each step, and fails where asked to."""

import os
import signal
import time

from cog import BasePredictor, ConcatenateIterator, Input  # type: ignore[import-not-found]

STEPS = 3


class Predictor(BasePredictor):  # type: ignore[misc]
    def setup(self) -> None:
        print("set up")  # noqa: T201

    def predict(
        self,
        text: str = Input(description="said again"),
        seconds: float = Input(default=0.0),
        fail: str = Input(default=""),
        image: str = Input(default=""),
    ) -> ConcatenateIterator[str]:
        for step in range(STEPS):
            time.sleep(seconds / STEPS)
            print(f"step {step}", flush=True)  # noqa: T201
            if step == 1 and fail == "error":
                raise ValueError("it went wrong")
            if step == 1 and fail == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            yield f"{text}{step}"
        if image:
            yield image
