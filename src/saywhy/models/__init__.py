"""Models: loading a network with its labels, weights and preprocessing from each library; independent of methods."""

from saywhy.models.axes import Input
from saywhy.models.load import load
from saywhy.models.model import Model
from saywhy.models.preprocess import Preprocess
from saywhy.models.registry import SOURCES, Source, all_sources, source

__all__ = ["SOURCES", "Input", "Model", "Preprocess", "Source", "all_sources", "load", "source"]
