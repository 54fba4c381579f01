"""The baseline "gt-class" of Chattopadhyay et al. (2017): a count is one of several classes, not a number."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from saywhy.errors import InputError
from saywhy.tasks.counting.losses import CountLoss
from saywhy.tasks.counting.networks import CellFeatures, CountHead, PredictedCells, hidden_layers
from saywhy.validation import validate, whole_number

CountDecoding = Literal["mode", "mean"]
"""The count of a distribution over counts: the likeliest one, or the mean, which has a gradient."""


class CountClassifier(CountHead):
    """Counting as classification: for each class of objects a softmax over the counts 0 to ``most``.

    The input is [batch, 1, feature], as for :class:`saywhy.tasks.counting.networks.Glance`.

    Args:
        features, classes, hidden, layers: as there. The source does not say which layers the baseline has.
        most: the largest count, that of the training images.
        decoding: "mode" is the baseline; its counts have no gradient. "mean" can be explained.

    >>> CountClassifier(6, 3, most=4, hidden=5)(torch.rand(2, 1, 6)).shape
    torch.Size([2, 1, 3])
    """

    def __init__(
        self,
        features: int,
        classes: int,
        most: int,
        hidden: int = 500,
        layers: int = 2,
        decoding: CountDecoding = "mode",
    ) -> None:
        super().__init__(features, classes, 1)
        self.most, self.decoding = whole_number("most", most, 1), validate("decoding", decoding, CountDecoding)
        width = hidden if layers else features
        self.net = nn.Sequential(
            *hidden_layers(features, hidden, layers), nn.Linear(width, self.classes * (self.most + 1))
        )

    def logits(self, features: CellFeatures) -> Float[Tensor, "batch class count"]:
        """Return the logits of the counts of every class."""
        rows: Tensor = self.net(self.checked(features).squeeze(1))
        return rows.unflatten(1, (self.classes, self.most + 1))

    def count(self, features: CellFeatures) -> PredictedCells:
        logits = self.logits(features)
        if self.decoding == "mode":
            return logits.argmax(2).to(logits.dtype).unsqueeze(1)
        values = torch.arange(self.most + 1, dtype=logits.dtype, device=logits.device)
        return (logits.softmax(2) @ values).unsqueeze(1)

    def loss(self, features: CellFeatures, counts: PredictedCells, loss: CountLoss = "huber") -> Float[Tensor, ""]:
        """Return the cross-entropy of the true counts [batch, 1, class], whole numbers, a mean over images and classes.

        ``loss`` is not used.

        Raises:
            InputError: a count is no whole number, or is above ``most``.
        """
        true = counts.squeeze(1).round()
        if counts.ndim != 3 or counts.shape[1] != 1 or bool(((true - counts.squeeze(1)).abs() > 1e-4).any()):
            raise InputError(
                "classes of counts are whole numbers: expected the counts of whole images [batch, 1, class], got "
                f"{list(counts.shape)}, or fractions of objects. Use a grid of 1."
            )
        if bool(((true < 0) | (true > self.most)).any()):
            raise InputError(
                f"there are classes for the counts 0 to {self.most}, got {float(true.min()):g} to "
                f"{float(true.max()):g}. Build the network with most={int(true.max())}."
            )
        return F.cross_entropy(self.logits(features).flatten(0, 1), true.long().flatten())
