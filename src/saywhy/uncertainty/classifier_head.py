"""Classifiers with a variance head (aleatoric uncertainty)."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from saywhy.engine import tree
from saywhy.uncertainty.mc_samples import output_batch_size, single_output, single_scores
from saywhy.uncertainty.variance_head import VarianceHead
from saywhy.validation import whole_number


@dataclass
class VarianceOutput:
    """The output of a classifier with a variance head.

    Attributes:
        logits: [batch, class].
        variance: the variance of the noise in the logits, [batch, 1].
    """

    logits: Float[Tensor, "batch class"]
    variance: Float[Tensor, "batch 1"]


class VarianceClassifier(nn.Module):
    """A classifier with a variance head: it also predicts the variance of the noise in its logits.

    Args:
        network: a network that returns class scores.
        classes: the number of classes.
        output: the key or index of the class scores in the network's output, if they are not found automatically.

    >>> import torch
    >>> net = VarianceClassifier(nn.Sequential(nn.Flatten(), nn.Linear(27, 5)), classes=5)
    >>> output = net(torch.rand(2, 3, 3, 3))
    >>> output.logits.shape, output.variance.shape
    (torch.Size([2, 5]), torch.Size([2, 1]))
    """

    def __init__(self, network: nn.Module, classes: int, output: str | int | None = None) -> None:
        super().__init__()
        classes = whole_number("classes", classes, 2)
        self.network, self.output, self.variance_head = network, output, VarianceHead(classes)

    @property
    def wrapped_module(self) -> nn.Module:
        """The wrapped network, which takes the inputs."""
        return self.network

    def forward(self, *args: Any, **kwargs: Any) -> VarianceOutput:
        """Return the class scores, and the variance of the noise in them."""
        result = single_output(self.network(*args, **kwargs), self.network)
        samples = output_batch_size(result, tree.batch_size((args, kwargs)))
        logits = single_scores(result, samples, self.output, self.network)
        return VarianceOutput(logits, self.variance_head(logits))
