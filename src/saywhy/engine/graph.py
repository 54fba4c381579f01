"""The autograd graph of one pass: a node for every function, however it was called.

Modules, functions, scripted code and checkpointed blocks all leave the same nodes, so the graph shows the whole
network. Only the user's own autograd functions are opaque.
"""

from collections.abc import Iterable, Iterator

from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import Node


def nodes(tensors: Iterable[Tensor]) -> Iterator[Node]:
    """Every node from some tensors back to the start of their graph, once.

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
    """The function that a node differentiates, without its version number: ``"Relu"``, ``"Convolution"``, ``"Clamp"``.

    >>> import torch
    >>> kind(torch.ones(2, requires_grad=True).clamp(min=0).grad_fn)
    'Clamp'
    """
    return node.name().partition("Backward")[0]


def is_foreign(node: Node) -> bool:
    """Whether a node is an opaque function: the user's own, or a compiled one."""
    if "DifferentiableGraph" in node.name():
        return True
    return isinstance(node, BackwardCFunction) and not type(node)._forward_cls.__module__.startswith("saywhy.")
