"""What says how much noise a network expects in its logits."""

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from saywhy.errors import InputError


class VarianceHead(nn.Module):
    """The variance of the noise in the logits, one for all of them: ``softplus(w x + b)`` (Patro et al., 2019).

    Args:
        width: numbers of what is read.
        reads: ``"logits"``, as in the released program, or ``"found"``, what the classifier has read: the paper's
            attended features.

    >>> import torch
    >>> VarianceHead(4)(torch.zeros(2, 4), torch.zeros(2, 9)).shape
    torch.Size([2, 1])
    """

    def __init__(self, width: int, reads: Literal["logits", "found"] = "logits") -> None:
        super().__init__()
        if reads not in ("logits", "found"):
            raise InputError(f"reads is 'logits' or 'found', got {reads!r}.")
        self.reads, self.scale = reads, nn.Linear(width, 1)

    def forward(self, logits: Float[Tensor, "batch class"], found: Tensor | None = None) -> Float[Tensor, "batch 1"]:
        """Variances from 0, of the square of the logits' unit."""
        read = logits if self.reads == "logits" else found
        if read is None:
            raise InputError("a head that reads what was found needs it; this network gives logits alone.")
        if read.shape[-1] != self.scale.in_features:
            raise InputError(
                f"this head reads {self.scale.in_features} numbers ({self.reads}), got {read.shape[-1]}. Make it for "
                "the network: VarianceHead(answers)."
            )
        return F.softplus(self.scale(read))
