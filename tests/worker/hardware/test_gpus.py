"""GPUs as drivers' programs list them, odd answers among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from switchyard.services.worker.hardware import gpus
from switchyard.services.worker.hardware.gpus import Gpu, capability
from switchyard.services.worker.hardware.program import Answer, Program
from tests.worker.hardware import recorded


class Recorded(Program):
    """Answers as another machine's program did."""

    def __init__(self, *answers: Answer | None) -> None:
        super().__init__("nvidia-smi")
        self.answers = list(answers)
        self.asked: list[Sequence[str]] = []

    @property
    def is_there(self) -> bool:
        return True

    def run(self, arguments: Sequence[str]) -> Answer | None:
        self.asked.append(arguments)
        return self.answers.pop(0)


def found(*answers: Answer | None, visible: str | None = None) -> dict[str, Any]:
    listed = gpus.nvidia(Recorded(*answers), visible)
    assert listed is not None
    return capability(listed)


def test_one_gpu_is_declared_with_its_name_and_whole_gibibytes() -> None:
    assert found(recorded.ONE) == {
        "count": 1, "vendor": "nvidia", "model": "NVIDIA GeForce RTX 4090", "memory_gb": 24,
        "memory_total_gb": 24, "driver": "550.54.14",
    }  # fmt: skip


def test_of_gpus_that_differ_the_smallest_memory_counts() -> None:
    gpu = found(recorded.TWO_UNLIKE)
    assert (gpu["count"], gpu["memory_gb"], gpu["memory_total_gb"]) == (2, 22, 102)
    assert gpu["model"] == ["NVIDIA A100-SXM4-80GB", "NVIDIA L4"]


def test_slices_count_in_place_of_the_gpu_that_is_cut() -> None:
    gpu = found(recorded.SLICED, recorded.SLICES)
    assert (gpu["count"], gpu["memory_gb"], gpu["memory_total_gb"]) == (3, 5, 65)
    assert gpu["mig"] == ["1g.5gb+me", "3g.20gb"]
    assert gpus.nvidia(Recorded(recorded.SLICED, None), None) is None


def test_memory_that_no_driver_knows_is_left_out() -> None:
    gpu = found(recorded.UNIFIED)
    assert gpu == {"count": 1, "vendor": "nvidia", "model": "NVIDIA GB10", "driver": "580.95.05"}
    assert "memory_gb" not in found(recorded.LOCALISED)


def test_a_driver_that_knows_no_slices_is_asked_without_them() -> None:
    assert found(recorded.OLD_REFUSES, recorded.OLD)["model"] == "Tesla K80"
    assert found(recorded.COMMA)["model"] == "Quadro, special"
    assert found(recorded.UNITS)["memory_gb"] == 15


@pytest.mark.parametrize(
    "answer", [recorded.NO_DRIVER, recorded.MISMATCH, recorded.NO_DEVICES, Answer(0, "")]
)
def test_an_answer_without_gpus_is_none_found(answer: Answer) -> None:
    assert found(answer) == {}


def test_a_gpu_that_is_lost_is_left_out_beside_one_that_is_not() -> None:
    assert found(recorded.LOST)["model"] == "NVIDIA A100-SXM4-80GB"


@pytest.mark.parametrize(
    ("visible", "models"),
    [
        ("", []),
        ("-1", []),
        ("1", ["NVIDIA A100-SXM4-80GB"]),
        ("0,1", ["NVIDIA L4", "NVIDIA A100-SXM4-80GB"]),
        ("1,1", ["NVIDIA A100-SXM4-80GB"]),
        ("0,7,1", ["NVIDIA L4"]),
        ("GPU-2222", ["NVIDIA A100-SXM4-80GB"]),
        ("GPU-", []),
        ("NoDevFiles", []),
    ],
)
def test_gpus_that_are_hidden_are_left_out(visible: str, models: list[str]) -> None:
    listed = gpus.nvidia(Recorded(recorded.TWO_UNLIKE), visible)
    assert [gpu.model for gpu in listed or ()] == models


def test_gpus_of_amd_are_found_in_the_forms_of_both_versions() -> None:
    assert capability(gpus.read_amd(recorded.ROCM_5)) == {
        "count": 1, "vendor": "amd", "model": "Navi 21 [Radeon RX 6800/6800 XT / 6900 XT]", "memory_gb": 16,
        "memory_total_gb": 16, "driver": "5.18.13",
    }  # fmt: skip
    assert capability(gpus.read_amd(recorded.ROCM_6)) == {
        "count": 2, "vendor": "amd", "model": "AMD Instinct MI300X OAM", "memory_gb": 192,
        "memory_total_gb": 384, "driver": "6.7.0",
    }  # fmt: skip


@pytest.mark.parametrize(
    "output",
    [recorded.ROCM_NONE.output, recorded.ROCM_EMPTY.output, "{", "[1]", '{"card0": 3}', "{" * 100_000, "{}"],
)
def test_what_is_no_list_of_amd_gives_none(output: str) -> None:
    assert gpus.read_amd(Answer(0, output)) == []


def test_what_a_program_says_cannot_make_a_declaration_large() -> None:
    lines = "".join(f"{n}, GPU-{n}, {'x' * 5000}\x1b, {'9' * 5000}, 1.2, [N/A]\n" for n in range(5000))
    gpu = found(Answer(0, lines))
    assert gpu["count"] == gpus.MOST
    assert len(gpu["model"]) == gpus.NAME_CHARS
    assert capability([Gpu("amd", "", None)]) == {"count": 1, "vendor": "amd"}
