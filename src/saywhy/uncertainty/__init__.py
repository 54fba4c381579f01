"""Uncertainty: estimates for any model, and the training of U-CAM with a variance head."""

from saywhy.uncertainty.certainty import Gate, certainty_mask
from saywhy.uncertainty.classifier_head import VarianceClassifier
from saywhy.uncertainty.dropout import MCDropout, mc_dropout
from saywhy.uncertainty.ensemble import Ensemble, TestTimeAugmentation, ensemble, with_augmentations
from saywhy.uncertainty.estimate import Uncertainty, estimate
from saywhy.uncertainty.loss import Losses, losses
from saywhy.uncertainty.temperature import fit_temperature
from saywhy.uncertainty.ucam import UCAM
from saywhy.uncertainty.variance_head import VarianceHead

__all__ = [
    "UCAM",
    "Ensemble",
    "Gate",
    "Losses",
    "MCDropout",
    "TestTimeAugmentation",
    "Uncertainty",
    "VarianceClassifier",
    "VarianceHead",
    "certainty_mask",
    "ensemble",
    "estimate",
    "fit_temperature",
    "losses",
    "mc_dropout",
    "with_augmentations",
]
