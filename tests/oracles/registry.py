"""The registry of oracles by the name of their method or metric; a decorator registers each."""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

F = TypeVar("F", bound=Callable[..., Any])

ORACLES: dict[str, Callable[..., np.ndarray]] = {}
"""Oracles of methods of one pass, by the method's name in the registry."""

RUN_ORACLES: dict[str, Callable[..., np.ndarray]] = {}
"""Oracles of methods that run the network themselves, by the method's name."""

METRIC_ORACLES: dict[str, Callable[..., Any]] = {}
"""Oracles of metrics, by the metric's name in the registry."""


def oracle(name: str) -> Callable[[F], F]:
    """For a method of one pass: activations and gradients of one sample [channel, *space] in, the map [*space] out."""
    return _into(ORACLES, name)


def run_oracle(name: str) -> Callable[[F], F]:
    """For a method that runs the network: an ``Observed`` network and one image [channel, *space] in, the map out."""
    return _into(RUN_ORACLES, name)


def metric_oracle(*names: str) -> Callable[[F], F]:
    """For one metric, or for several that are the same number of different maps."""
    return _into(METRIC_ORACLES, *names)


def _into(oracles: dict[str, Callable[..., Any]], *names: str) -> Callable[[F], F]:
    def add(function: F) -> F:
        for name in names:
            assert name not in oracles, f"there are two oracles for '{name}'"
            oracles[name] = function
        return function

    return add
