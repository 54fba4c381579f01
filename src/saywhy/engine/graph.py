"""The graph that autograd has kept of one pass: a node for every function, whoever called it.

Modules, functions, scripted code and blocks that are run again (checkpoints) all leave the same nodes, so whoever looks
here sees the whole network. What cannot be looked into is a function of the user's own.
"""

from collections.abc import Iterable, Iterator

from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import Node


def nodes(tensors: Iterable[Tensor]) -> Iterator[Node]:
    """Every node from some tensors back to where their graph begins, once.

    >>> import torch
    >>> x = torch.ones(2, requires_grad=True)
    >>> [node.name() for node in nodes([(x.exp() + x).relu()])][:3]
    ['ReluBackward0', 'AddBackward0', 'ExpBackward0']
    """
    seen: set[Node] = set()
    waiting = [tensor.grad_fn for tensor in tensors]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            waiting.extend(before for before, _ in reversed(node.next_functions))


def kind(node: Node) -> str:
    """What a node undoes, without the number of its form: ``"Relu"``, ``"Convolution"``, ``"Clamp"``.

    >>> import torch
    >>> kind(torch.ones(2, requires_grad=True).clamp(min=0).grad_fn)
    'Clamp'
    """
    return node.name().partition("Backward")[0]


def is_foreign(node: Node) -> bool:
    """Whether a node is a function of the user's own (or a compiled one), of which nobody knows what it computes."""
    if "DifferentiableGraph" in node.name():
        return True
    return isinstance(node, BackwardCFunction) and not type(node)._forward_cls.__module__.startswith("saywhy.")
