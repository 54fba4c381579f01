"""What is known beside the maps: images, diagnostics and provenance, worked out when first asked for."""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from saywhy.diagnostics import Diagnostics
from saywhy.images import SourceImage


class Metadata:
    """What is known beside the maps, worked out when it is first asked for.

    Args:
        images: the original images, or a function that makes them.
        diagnostics: by (method, layer), [batch][target], or a function that makes them.
        provenance: see :attr:`Explanation.provenance`, or a function that makes it.

    A pickle or a copy holds what was worked out, and no function.

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
        self._given = images, diagnostics, provenance

    @cached_property
    def images(self) -> tuple[SourceImage, ...]:
        """The original images."""
        given = self._given[0]
        return given() if callable(given) else given

    @cached_property
    def diagnostics(self) -> Mapping[tuple[str, str], list[list[Diagnostics]]]:
        """By (method, layer), [batch][target]."""
        given = self._given[1]
        return given() if callable(given) else given

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """How the maps were made."""
        given = self._given[2]
        return given() if callable(given) else given

    def resolved(self) -> "Metadata":
        """The same, with everything worked out."""
        return Metadata(self.images, self.diagnostics, self.provenance)

    def __reduce__(self) -> tuple[Any, ...]:
        return Metadata, (self.images, self.diagnostics, self.provenance)
