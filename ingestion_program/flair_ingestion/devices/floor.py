"""The shortest inference time that the links of a GPU allow, below which a time deserves a look."""

from __future__ import annotations

from flair_ingestion.devices.device import Device
from flair_ingestion.devices.nvidia import read_bandwidth
from flair_scoring.raster import PATCH_SIZE

# Of a patch: the aerial image (uint8, 5 channels). The labels go the other way, at the same time
PATCH_BYTES = 5 * PATCH_SIZE**2


def floor_seconds(device: Device, patches: int, requests: int, weight_bytes: int) -> float | None:
    """Seconds in which a GPU can take in the aerial images, and read the weights once for each request.

    Arithmetic, the Sentinel-2 series, the labels and the start of each step are left out. So a submission
    that reads all its inputs and weights on the GPU takes longer. One that computes on the CPU, leaves
    channels out, or has weights that it does not use may honestly take less. None if the device is no GPU, or
    if its driver does not tell the rate of its link.
    """
    if device.visible_gpu is None:
        return None
    bandwidth = read_bandwidth(device.visible_gpu)
    if bandwidth.link is None:
        return None
    weights = requests * weight_bytes / bandwidth.memory if bandwidth.memory else 0.0
    return patches * PATCH_BYTES / bandwidth.link + weights
