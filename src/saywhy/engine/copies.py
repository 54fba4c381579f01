"""Copies of networks, for what must change weights or modules."""

import copy

import torch
from torch import nn

from saywhy.engine.exclusive import exclusive
from saywhy.errors import ModelError, first_line


def copied(network: nn.Module, purpose: str) -> nn.Module:
    """A deep copy of a network.

    Args:
        network: any module.
        purpose: what cannot be done without a copy, as the end of the sentence "it cannot be copied, so …".

    Raises:
        ModelError: the network, or a parameter of a class of its own, cannot be copied.

    >>> copied(nn.Linear(2, 1), "it cannot be changed").weight.shape
    torch.Size([1, 2])
    """
    try:
        with exclusive(network), torch.inference_mode(False), torch.no_grad():
            return copy.deepcopy(network)
    except Exception as error:
        raise ModelError(f"the network cannot be copied, so {purpose} ({first_line(error)}).") from error
