"""Devices: parsing a name, and moving a network."""

import torch
from torch import nn

from saywhy.errors import InputError
from saywhy.validation import short_repr


def as_device(device: str | int | torch.device) -> torch.device:
    """Return a device that torch can compute on here.

    Raises:
        InputError: there is no such kind of device, or none here.

    >>> as_device("cpu")
    device(type='cpu')
    """
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"device must be 'cpu', 'cuda', 'cuda:1', 'mps' or a torch.device, got {short_repr(device)}."
        ) from error
    if found.type == "meta":
        raise InputError("device 'meta' holds no values, so nothing can be computed there. Give 'cpu' or 'cuda'.")
    try:
        torch.empty(1, device=found).add(1)
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        raise InputError(f"device '{found}' is not available here. torch finds {', '.join(_available())}.") from error
    return found


def move(network: nn.Module, device: str | int | torch.device) -> None:
    """Move a network to a device, in place.

    Raises:
        InputError: the device is not available, or the network cannot be moved there.
    """
    to = as_device(device)
    try:
        network.to(to)
    except (RuntimeError, NotImplementedError, TypeError) as error:
        raise InputError(f"the network cannot be moved to '{to}': {error}") from error


def _available() -> list[str]:
    """The devices that torch finds."""
    found = [f"'cuda:{number}'" for number in range(torch.cuda.device_count())]
    return ["'cpu'", *found, *(["'mps'"] if torch.backends.mps.is_available() else [])]
