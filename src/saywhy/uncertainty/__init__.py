"""How certain a model is: estimates for any model, and the training of U-CAM, which makes it say so."""

from saywhy.uncertainty.certainty import Gate, certainty_mask
from saywhy.uncertainty.classifier_head import CertainClassifier
from saywhy.uncertainty.dropout import MonteCarlo, monte_carlo
from saywhy.uncertainty.ensemble import Augmented, Ensemble, augmented, ensemble
from saywhy.uncertainty.estimate import Uncertainty, estimate
from saywhy.uncertainty.loss import Losses, losses
from saywhy.uncertainty.temperature import fit_temperature
from saywhy.uncertainty.ucam import UCam
from saywhy.uncertainty.variance_head import VarianceHead

__all__ = [
    "Augmented",
    "CertainClassifier",
    "Ensemble",
    "Gate",
    "Losses",
    "MonteCarlo",
    "UCam",
    "Uncertainty",
    "VarianceHead",
    "augmented",
    "certainty_mask",
    "ensemble",
    "estimate",
    "fit_temperature",
    "losses",
    "monte_carlo",
]
