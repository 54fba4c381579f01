"""Models: where each library keeps its labels, weights and preprocessing. Nothing here knows of methods."""

from saywhy.models.load import load
from saywhy.models.model import Model
from saywhy.models.preprocess import Preprocess

__all__ = ["Model", "Preprocess", "load"]
