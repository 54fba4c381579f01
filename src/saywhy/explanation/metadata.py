"""Metadata of an explanation: images, diagnostics and provenance, computed at first use."""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from saywhy.diagnostics import Diagnostics
from saywhy.images import SourceImage


class Metadata:
    """Images, diagnostics and provenance of an explanation, computed at first use.

    Args:
        images: the original images, or a function that makes them.
        diagnostics: the diagnostics [batch][target] by (method, layer), or a function that makes them.
        provenance: see :attr:`Explanation.provenance`, or a function that makes it.

    A pickle or a copy holds the computed values and no function.

    >>> Metadata((), {}, lambda: {"model": "mine"}).provenance
    {'model': 'mine'}
    """

    def __init__(
        self,
        images: tuple[SourceImage, ...] | Callable[[], tuple[SourceImage, ...]],
        diagnostics: Mapping[tuple[str, str], list[list[Diagnostics]]]
        | Callable[[], Mapping[tuple[str, str], list[list[Diagnostics]]]],
        provenance: dict[str, Any] | Callable[[], dict[str, Any]],
    ) -> None:
        self._sources = images, diagnostics, provenance

    @cached_property
    def images(self) -> tuple[SourceImage, ...]:
        """The original images."""
        given = self._sources[0]
        return given() if callable(given) else given

    @cached_property
    def diagnostics(self) -> Mapping[tuple[str, str], list[list[Diagnostics]]]:
        """The diagnostics [batch][target] by (method, layer)."""
        given = self._sources[1]
        return given() if callable(given) else given

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """How the maps were made: model, weights, layers, targets, methods, versions."""
        given = self._sources[2]
        return given() if callable(given) else given

    def resolved(self) -> "Metadata":
        """The metadata with everything computed."""
        return Metadata(self.images, self.diagnostics, self.provenance)

    def __reduce__(self) -> tuple[Any, ...]:
        return Metadata, (self.images, self.diagnostics, self.provenance)
