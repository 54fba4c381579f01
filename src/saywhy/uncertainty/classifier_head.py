"""Classifiers that say how much noise they expect in their logits."""

from typing import Any

from torch import nn

from saywhy.engine import tree
from saywhy.output import parse_output
from saywhy.tasks.vqa.networks import VQAOutput
from saywhy.uncertainty.mc_samples import asked_once, length_of
from saywhy.uncertainty.variance_head import VarianceHead
from saywhy.validation import whole_number


class VarianceClassifier(nn.Module):
    """Any network of classes, and the noise that it expects in its logits.

    Args:
        network: with class scores.
        classes: how many.
        output: where they are, if they are not found.

    >>> import torch
    >>> net = VarianceClassifier(nn.Sequential(nn.Flatten(), nn.Linear(27, 5)), classes=5)
    >>> said = net(torch.rand(2, 3, 3, 3))
    >>> said.logits.shape, said.variance.shape
    (torch.Size([2, 5]), torch.Size([2, 1]))
    """

    def __init__(self, network: nn.Module, classes: int, output: str | int | None = None) -> None:
        super().__init__()
        classes = whole_number("classes", classes, 2)
        self.network, self.output, self.variance_head = network, output, VarianceHead(classes)

    @property
    def passes_on_to(self) -> nn.Module:
        """The network that takes the inputs."""
        return self.network

    def forward(self, *args: Any, **kwargs: Any) -> VQAOutput:
        """Class scores, and the variance of noise in them."""
        result = asked_once(self.network(*args, **kwargs), self.network)
        logits = parse_output(result, length_of(result, tree.batch_size((args, kwargs))), self.output).logits
        return VQAOutput(logits, None, self.variance_head(logits))
