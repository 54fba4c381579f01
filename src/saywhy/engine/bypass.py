"""Paths round a layer: whether all of a score's dependence on the image passes through one tensor.

The autograd graph of one pass runs from the score back to the image. A layer that lies on every path between them sees
the whole evidence. A branch, a member of an ensemble or a layer beside a skip connection sees a part of it.
"""

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor
from torch.autograd.graph import Node


class PassGraph:
    """The autograd graph of one pass, from some tensors (scores or outputs) back to the image.

    Args:
        ends: the tensors from which the graph runs back.
        image: the image, not a leaf.

    >>> import torch
    >>> x = torch.ones(2, requires_grad=True).clone()
    >>> a = x.exp()
    >>> y = a.sin() + a
    >>> every = PassGraph([y], x).on_every_path()
    >>> a.grad_fn in every, y.grad_fn in every
    (True, True)
    """

    def __init__(self, ends: Iterable[Tensor], image: Tensor) -> None:
        self._ends = [t.grad_fn for t in ends if t.grad_fn is not None]
        self._image = image.grad_fn
        self.order = _topological(self._ends)
        """Every node, each before those that it depends on."""
        self.from_image: set[Node] = set()
        """The nodes that depend on the image."""
        for node in reversed(self.order):
            if node is self._image or any(before in self.from_image for before, _ in node.next_functions):
                self.from_image.add(node)

    def on_every_path(self) -> set[Node]:
        """The nodes through which every path from the ends to the image passes."""
        order = [node for node in self.order if node in self.from_image]
        position = {node: i for i, node in enumerate(order)}
        furthest = max((position[end] for end in self._ends if end in position), default=-1)
        found: set[Node] = set()
        for i, node in enumerate(order):
            if furthest <= i:
                found.add(node)
            furthest = max([furthest, *(position[b] for b, _ in node.next_functions if b in position)])
        return found

    def upstream(self, named: Mapping[Node, int]) -> dict[int, int]:
        """For every numbered node, the numbered nodes that it depends on, as the bits of an integer."""
        below: dict[Node, int] = {}
        for node in reversed(self.order):
            bits = 0
            for before, _ in node.next_functions:
                if before is not None:
                    bits |= below[before] | (1 << named[before] if before in named else 0)
            below[node] = bits
        return {number: below[node] for node, number in named.items() if node in below}


def _topological(ends: Sequence[Node]) -> list[Node]:
    """Every node reachable from the ends, each before those that it depends on; without recursion."""
    done: list[Node] = []
    seen: set[Node] = set()
    for end in ends:
        if end in seen:
            continue
        seen.add(end)
        waiting = [(end, iter(end.next_functions))]
        while waiting:
            node, rest = waiting[-1]
            before = next((b for b, _ in rest if b is not None and b not in seen), None)
            if before is None:
                done.append(node)
                waiting.pop()
            else:
                seen.add(before)
                waiting.append((before, iter(before.next_functions)))
    return done[::-1]


def read_by(score: Tensor, output: Iterable[Tensor]) -> list[Tensor]:
    """Of the tensors in a network's output, those that the score reads itself, not by way of another one.

    >>> import torch
    >>> x = torch.ones(1, 2, requires_grad=True)
    >>> features, logits = x * 2, x * 2 * 3
    >>> [t is logits for t in read_by(logits.sum(), (features, logits))]
    [True]
    """
    by_node = {t.grad_fn: t for t in output if t.grad_fn is not None and t.is_floating_point()}
    found: list[Tensor] = []
    seen: set[Node] = set()
    waiting = [score.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node in by_node:
            found.append(by_node[node])
        else:
            waiting.extend(before for before, _ in node.next_functions)
    return found


def share_through(whole: Tensor | None, around: Tensor | None) -> float | None:
    """The share of the score's gradient at the image that passes through a layer, 0 to 1.

    Args:
        whole: the gradient at the image; None or zero where it is not known.
        around: the same with the layer's output held fixed; None where nothing passes round it.

    >>> import torch
    >>> share_through(torch.tensor([2.0, 2.0]), torch.tensor([0.0, 2.0]))
    0.5
    """
    if whole is None or not bool(whole.any()):
        return None
    if around is None:
        return 1.0
    g, round_it = whole.double().flatten(), around.double().flatten()
    return float(((g - round_it) @ g / (g @ g)).clamp(0, 1))
