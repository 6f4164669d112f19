"""Capabilities of the hardware."""

from functools import lru_cache

import torch


@lru_cache
def has_bf16_units(device: torch.device) -> bool:
    """Whether the hardware multiplies bf16 matrices faster than fp32 ones.

    An x86 processor with AMX is about 7 times as fast, one with AVX512-BF16 twice as fast.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def has_tile_units() -> bool:
    """Whether the CPU has AMX, so that matrix layout matters."""
    return torch.cpu._is_amx_tile_supported()
