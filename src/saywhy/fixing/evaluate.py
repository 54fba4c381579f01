"""What a network predicts, for which groups it is right, and what it relies on."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from saywhy.datasets.labelled import SPLITS
from saywhy.engine.capture import Watched
from saywhy.fixing.grounding import Grounding, grounding
from saywhy.fixing.inputs import ImageInputs
from saywhy.fixing.passes import output_of, predicted
from saywhy.models import Model

MOST_GROUNDED = 200
"""Images on which grounding is measured, at most."""

AT_ONCE = 64
"""Images in a batch of evaluation."""


@dataclass(frozen=True)
class SplitAccuracy:
    """How often a network is right on a split.

    Attributes:
        overall: the share of images.
        groups: of each group, where groups are known.
        right: [image] as 0 and 1, for paired comparisons.
    """

    overall: float
    groups: Mapping[str, float] = field(default_factory=dict)
    right: Sequence[int] = ()

    @property
    def worst_group(self) -> float | None:
        """The lowest accuracy of a group; None where groups are unknown."""
        return min(self.groups.values()) if self.groups else None


@dataclass(frozen=True)
class Evaluation:
    """All that is measured of one network.

    Attributes:
        accuracy: by split.
        grounding: on held-out hints.
    """

    accuracy: Mapping[str, SplitAccuracy]
    grounding: Grounding

    def record(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "accuracy": {split: asdict(found) for split, found in self.accuracy.items()},
            "grounding": asdict(self.grounding),
        }

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Evaluation":
        """From plain data."""
        accuracy = {split: SplitAccuracy(**found) for split, found in record["accuracy"].items()}
        return cls(accuracy, Grounding(**record["grounding"]))


def predictions(
    model: Model, network: nn.Module, inputs: ImageInputs, indices: Int[Tensor, " image"]
) -> Float[Tensor, "image class"]:
    """The class scores of images, in evaluation mode, without a graph; float32 on the CPU."""
    found = []
    device = next(network.parameters()).device
    for some in indices.split(AT_ONCE):
        images = inputs.images(some).to(device)
        found.append(output_of(model, network, images).log_probabilities().float().cpu())
    return torch.cat(found)


def group_accuracies(
    right: Bool[Tensor, " image"], groups: Int[Tensor, " image"], names: Sequence[str]
) -> dict[str, float]:
    """The accuracy of every group that has images.

    >>> group_accuracies(torch.tensor([True, False, True]), torch.tensor([0, 0, 2]), ["a", "b", "c"])
    {'a': 0.5, 'c': 1.0}
    """
    return {names[g]: float(right[groups == g].float().mean()) for g in groups.unique().tolist()}


def accuracy(model: Model, network: nn.Module, inputs: ImageInputs, split: str) -> SplitAccuracy:
    """The accuracy on a split, and of its groups."""
    indices = torch.tensor(inputs.data.indices(split))
    right = predicted(predictions(model, network, inputs, indices)) == inputs.labels[indices]
    groups = inputs.groups
    by_group = {} if groups is None else group_accuracies(right, groups[indices], inputs.data.group_names)
    return SplitAccuracy(float(right.float().mean()), by_group, right.int().tolist())


def evaluate(model: Model, network: nn.Module, inputs: ImageInputs, layer: Watched) -> Evaluation:
    """Measure a network on all splits, and its grounding on held-out images with hints.

    Args:
        model: says where the class scores are.
        network: with the model's architecture.
        inputs: the images of all splits.
        layer: in ``network``.
    """
    splits = [split for split in SPLITS if inputs.data.indices(split)]
    return Evaluation(
        {split: accuracy(model, network, inputs, split) for split in splits},
        grounding(model, network, inputs, held_out(inputs), layer),
    )


def held_out(inputs: ImageInputs) -> Tensor:
    """Images with hints on which no method was trained, of the split that decides if it has any."""
    for split in ("shifted", "test", "val"):
        found = inputs.hinted_of(split)
        if len(found):
            break
    # Evenly from all of them, because files are often sorted by class.
    return found[:: max(1, -(-len(found) // MOST_GROUNDED))]
