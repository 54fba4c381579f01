"""The counter of Toybox's kinds: the classifier's feature maps, pooled in cells, and a network that counts."""

from typing import Literal, get_args

from saywhy.tasks.counting.counter import Counter
from saywhy.tasks.counting.features import LayerFeatures, PooledCells
from saywhy.tasks.counting.networks import AssociativeSubitizing, CountHead, Glance, SequentialSubitizing
from saywhy.toybox import KINDS
from saywhy.toybox.models.classifier import WIDTHS, ToyboxClassifier
from saywhy.validation import validate

CounterKind = Literal["glance", "associative", "sequential"]
"""The networks that count."""

COUNTER_KINDS: tuple[CounterKind, ...] = get_args(CounterKind)

LAYER = "blocks"
"""The layer of the classifier whose feature maps are pooled."""

COUNTER_LAYER = f"features.features.network.{LAYER}"
"""The same layer in the counter."""


def counter_head(kind: CounterKind = "sequential", grid: int = 3, hidden: int = 64) -> CountHead:
    """Return a network that counts Toybox's kinds, with random weights.

    Args:
        kind: of the network; "glance" takes a grid of 1.
        grid: the cells a side.
        hidden: the width of its hidden layers; published 250 and 500.

    >>> counter_head("glance", 1).grid
    1
    """
    validate("kind", kind, CounterKind)
    features, classes = WIDTHS[-1], len(KINDS)
    if kind == "glance":
        return Glance(features, classes, hidden)
    if kind == "associative":
        return AssociativeSubitizing(features, classes, grid, hidden)
    return SequentialSubitizing(features, classes, grid, hidden)


def toybox_counter(head: CountHead, classifier: ToyboxClassifier | None = None) -> Counter:
    """Return the counter of a head, on the feature maps of a classifier (16 x 16 cells, pooled to the head's grid).

    >>> import torch
    >>> toybox_counter(counter_head("associative")).eval()(torch.zeros(2, 3, 128, 128)).counts.shape
    torch.Size([2, 20])
    """
    trunk = classifier if classifier is not None else ToyboxClassifier()
    return Counter(PooledCells(LayerFeatures(trunk, LAYER), head.grid or 1), head)
