"""What the view needs of an explanation, and nothing else."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from PIL import Image
from torch import Tensor

from saywhy.errors import LayerError
from saywhy.geometry import CropBox, Tiles


@runtime_checkable
class DiagnosticLike(Protocol):
    """One line of a validity card; the state is good, warning or bad."""

    @property
    def name(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def text(self) -> str: ...


@runtime_checkable
class SourceImageLike(Protocol):
    """An original image and the part of it that the network saw."""

    @property
    def name(self) -> str: ...
    @property
    def image(self) -> Image.Image: ...
    @property
    def crop_box(self) -> CropBox | Tiles: ...


@runtime_checkable
class ExplanationLike(Protocol):
    """What the view needs of an explanation of B images with T targets each.

    Of signals and volumes ``images`` have ``values`` as well, and `saywhy.view.flat` makes images of them.
    """

    @property
    def methods(self) -> Sequence[str]: ...
    @property
    def layers(self) -> Sequence[str]: ...
    @property
    def targets(self) -> Sequence[Sequence[str]]: ...
    @property
    def classes(self) -> Tensor: ...
    @property
    def scores(self) -> Tensor: ...
    @property
    def score(self) -> str: ...
    @property
    def probabilities(self) -> Tensor | None: ...
    @property
    def words(self) -> Sequence[int]: ...
    @property
    def images(self) -> Sequence[SourceImageLike]: ...
    @property
    def cards(self) -> Mapping[tuple[str, str], Sequence[Sequence[Sequence[DiagnosticLike]]]]: ...
    @property
    def shows(self) -> Mapping[str, str]: ...
    @property
    def provenance(self) -> Mapping[str, Any]: ...
    def __getitem__(self, key: tuple[str, str]) -> Tensor: ...


def grids(explanation: ExplanationLike) -> Iterator[tuple[str, str, Tensor]]:
    """Method, layer and maps [B, T, *space] of every pair that exists."""
    for method in explanation.methods:
        for layer in explanation.layers:
            try:
                maps = explanation[method, layer]
            except (KeyError, LayerError):  # a method on pixels does not exist at every layer
                continue
            yield method, layer, maps
