"""What drivers' programs say, in the form of real machines: drivers of 470 to 570, rocm-smi of 5 and 6."""

from __future__ import annotations

from typing import Final

from switchyard.services.worker.hardware.program import Answer

ONE: Final = Answer(
    0, "0, GPU-5e1f2c3d-8f3a-1f2b-9a8b-0c1d2e3f4a5b, NVIDIA GeForce RTX 4090, 24564, 550.54.14, [N/A]\n"
)
TWO_UNLIKE: Final = Answer(
    0,
    "0, GPU-11111111-8f3a-1f2b-9a8b-0c1d2e3f4a5b, NVIDIA L4, 23034, 535.161.08, [N/A]\n"
    "1, GPU-22222222-8f3a-1f2b-9a8b-0c1d2e3f4a5b, NVIDIA A100-SXM4-80GB, 81920, 535.161.08, Disabled\n",
)
SLICED: Final = Answer(
    0,
    "0, GPU-aaaaaaaa-68b6-5900-d7d1-74026173bb44, NVIDIA A100-SXM4-40GB, 40960, 550.90.07, Enabled\n"
    "1, GPU-bbbbbbbb-68b6-5900-d7d1-74026173bb44, NVIDIA A100-SXM4-40GB, 40960, 550.90.07, Disabled\n"
    "2, GPU-cccccccc-68b6-5900-d7d1-74026173bb44, NVIDIA A100-SXM4-40GB, 40960, 550.90.07, Enabled\n",
)
SLICES: Final = Answer(
    0,
    "GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-aaaaaaaa-68b6-5900-d7d1-74026173bb44)\n"
    "  MIG 3g.20gb     Device  0: (UUID: MIG-e07a497d-1bb6-5a42-b670-1c33bf55ab6e)\n"
    "  MIG 1g.5gb+me   Device  1: (UUID: MIG-9c4d5e6f-1bb6-5a42-b670-1c33bf55ab6e)\n"
    "GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-bbbbbbbb-68b6-5900-d7d1-74026173bb44)\n"
    "GPU 2: NVIDIA A100-SXM4-40GB (UUID: GPU-cccccccc-68b6-5900-d7d1-74026173bb44)\n",
)
UNIFIED: Final = Answer(
    0, "0, GPU-5e1f2c3d-0000-0000-0000-000000000000, NVIDIA GB10, [N/A], 580.95.05, [N/A]\n"
)
OLD_REFUSES: Final = Answer(2, 'Field "mig.mode.current" is not a valid field to query.\n\n')
OLD: Final = Answer(0, "0, GPU-5e1f2c3d-8f3a-1f2b-9a8b-0c1d2e3f4a5b, Tesla K80, 11441, 440.33.01\n")
NO_DRIVER: Final = Answer(
    9,
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. "
    "Make sure that the latest NVIDIA driver is installed and running.\n\n",
)
MISMATCH: Final = Answer(
    18, "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 550.54\n"
)
NO_DEVICES: Final = Answer(6, "No devices were found\n")
LOST: Final = Answer(
    15,
    "Unable to determine the device handle for GPU0000:01:00.0: GPU is lost.  "
    "Reboot the system to recover this GPU\n"
    "1, GPU-22222222-8f3a-1f2b-9a8b-0c1d2e3f4a5b, NVIDIA A100-SXM4-80GB, 81920, 535.161.08, Disabled\n",
)
COMMA: Final = Answer(0, "0, GPU-5e1f2c3d-8f3a-1f2b-9a8b, Quadro, special, 8192, 550.54.14, [N/A]\n")
UNITS: Final = Answer(0, "0, GPU-5e1f2c3d-8f3a-1f2b-9a8b, NVIDIA T4, 15360 MiB, 550.54.14, [N/A]\n")
LOCALISED: Final = Answer(0, "0, GPU-5e1f2c3d-8f3a-1f2b-9a8b, NVIDIA T4, 15.360 Mio, 550.54.14, [N/D]\n")

ROCM_5: Final = Answer(
    0,
    '{"card0": {"VRAM Total Memory (B)": "17163091968", "VRAM Total Used Memory (B)": "13914112", '
    '"Card series": "Navi 21 [Radeon RX 6800/6800 XT / 6900 XT]", "Card model": "0x0e3a", '
    '"Card vendor": "Advanced Micro Devices, Inc. [AMD/ATI]", "Card SKU": "D41201"}, '
    '"system": {"Driver version": "5.18.13"}}\n',
)
ROCM_6: Final = Answer(
    0,
    "WARNING: AMD GPU device(s) is/are in a low-power state. Check power control/runtime_status\n\n"
    '{"card0": {"VRAM Total Memory (B)": "206141652992", "VRAM Total Used Memory (B)": "297283584", '
    '"Card Series": "AMD Instinct MI300X OAM", "Card Model": "0x74a1", "GFX Version": "gfx942"}, '
    '"card1": {"VRAM Total Memory (B)": "206141652992", "VRAM Total Used Memory (B)": "297283584", '
    '"Card Series": "AMD Instinct MI300X OAM", "Card Model": "0x74a1", "GFX Version": "gfx942"}, '
    '"system": {"Driver version": "6.7.0"}}\n',
)
ROCM_NONE: Final = Answer(2, "ERROR:root:Driver not initialized (amdgpu not found in modules)\n")
ROCM_EMPTY: Final = Answer(0, "\nWARNING: No JSON data to report\n")
