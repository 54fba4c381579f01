"""Models: where each library keeps its labels, weights and preprocessing. Nothing here knows of methods."""

from saywhy.models.load import load
from saywhy.models.model import Model
from saywhy.models.preprocess import Preprocess
from saywhy.models.registry import SOURCES, Source, all_sources, source

__all__ = ["SOURCES", "Model", "Preprocess", "Source", "all_sources", "load", "source"]
