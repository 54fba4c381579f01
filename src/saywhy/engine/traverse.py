"""Fast traversal of a model's modules and tensors; ``nn.Module.modules`` builds every name, which is slow."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn


def modules(model: nn.Module) -> Iterator[nn.Module]:
    """Every module once, the model itself first.

    >>> [type(m).__name__ for m in modules(nn.Sequential(nn.ReLU(), nn.Linear(1, 1)))]
    ['Sequential', 'ReLU', 'Linear']
    """
    seen: set[int] = set()
    waiting = [model]
    while waiting:
        module = waiting.pop()
        if id(module) not in seen:
            seen.add(id(module))
            yield module
            waiting.extend(child for child in reversed(module._modules.values()) if child is not None)


def tensors(model: nn.Module) -> Iterator[Tensor]:
    """Every parameter and buffer; a tied one once for each of its names.

    >>> len(list(tensors(nn.BatchNorm2d(3))))
    5
    """
    for module in modules(model):
        for held in (module._parameters, module._buffers):
            for tensor in held.values():
                if tensor is not None:
                    yield tensor


def has_scripted_part(model: nn.Module) -> bool:
    """Whether the model or a part of it is scripted or traced.

    >>> has_scripted_part(nn.Sequential(nn.ReLU()))
    False
    """
    return any(isinstance(module, torch.jit.ScriptModule) for module in model.modules())
