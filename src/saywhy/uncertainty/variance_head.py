"""The variance head: it predicts the variance of the noise in the logits (aleatoric uncertainty)."""

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from saywhy.errors import InputError
from saywhy.validation import PositiveInt, validated


class VarianceHead(nn.Module):
    """The variance of the noise in the logits, one number for all logits: ``softplus(w x + b)`` (Patro et al., 2019).

    Args:
        width: the size of the input.
        reads: the input: ``"logits"``, as in the released code, or ``"features"``, the input of the classifier (the
            attended features, as in the paper).

    >>> import torch
    >>> VarianceHead(4)(torch.zeros(2, 4), torch.zeros(2, 9)).shape
    torch.Size([2, 1])
    """

    @validated()
    def __init__(self, width: PositiveInt, reads: Literal["logits", "features"] = "logits") -> None:
        super().__init__()
        self.reads, self.scale = reads, nn.Linear(width, 1)

    def forward(self, logits: Float[Tensor, "batch class"], found: Tensor | None = None) -> Float[Tensor, "batch 1"]:
        """Return variances of at least 0, in squared units of the logits."""
        read = logits if self.reads == "logits" else found
        if read is None:
            raise InputError(
                "a variance head with reads='features' needs the input of the classifier; this network gives logits "
                "alone. Use reads='logits'."
            )
        if read.shape[-1] != self.scale.in_features:
            raise InputError(
                f"this head reads {self.scale.in_features} numbers ({self.reads}), got {read.shape[-1]}. Create it "
                "with the size of the network: VarianceHead(answers)."
            )
        return F.softplus(self.scale(read))
