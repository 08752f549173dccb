"""Where tensors live."""

from __future__ import annotations

import torch

from probseq.errors import InputError, unknown


def resolve_device(device: str) -> torch.device:
    """``auto`` (CUDA if there is one), ``cpu`` or ``cuda`` as a torch device.

    Raises:
        InputError: another name, or CUDA where there is none.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise unknown("device", device, ("auto", "cpu", "cuda"))
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise InputError("device is 'cuda', but torch finds no CUDA device here; use --device cpu or auto")
    return torch.device("cuda" if device != "cpu" and available else "cpu")
