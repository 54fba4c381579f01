"""Mean average precision of a classifier of Toybox."""

import torch
from torch import Tensor, nn

from saywhy.toybox.models.classifier import normalised
from saywhy.training.extra import training_library


def logits_of(network: nn.Module, images: Tensor, batch: int = 100) -> Tensor:
    """Return the logits (count, kind) of images (count, 3, height, width), uint8."""
    network.eval()
    with torch.inference_mode():
        return torch.cat([network(normalised(part.float() / 255)) for part in images.split(batch)])


def mean_average_precision(logits: Tensor, labels: Tensor) -> float:
    """Return the mean over kinds of average precision (the area under the precision-recall curve); 1 is perfect.

    >>> logits = torch.tensor([[2.0, -1.0], [-1.0, 0.0], [1.0, 3.0]])
    >>> mean_average_precision(logits, torch.tensor([[1, 0], [0, 0], [1, 1]]))
    1.0
    """
    metric = training_library("torchmetrics.classification").MultilabelAveragePrecision(
        num_labels=labels.shape[1], average="macro"
    )
    return float(metric(logits.sigmoid(), labels.long()))
