"""What the view needs of an explanation, and nothing else."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from PIL import Image
from torch import Tensor

from saywhy.errors import LayerError
from saywhy.geometry import Seen, Tiles


@runtime_checkable
class FactLike(Protocol):
    """One line of a validity card; the state is good, warning or bad."""

    @property
    def name(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def text(self) -> str: ...


@runtime_checkable
class PictureLike(Protocol):
    """An original picture and the part of it that the network saw."""

    @property
    def name(self) -> str: ...
    @property
    def image(self) -> Image.Image: ...
    @property
    def seen(self) -> Seen | Tiles: ...


@runtime_checkable
class Explained(Protocol):
    """What the view needs of an explanation of B pictures with T targets each.

    Of signals and volumes ``pictures`` have ``values`` as well, and `saywhy.view.flat` makes pictures of them.
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
    def pictures(self) -> Sequence[PictureLike]: ...
    @property
    def cards(self) -> Mapping[tuple[str, str], Sequence[Sequence[Sequence[FactLike]]]]: ...
    @property
    def shows(self) -> Mapping[str, str]: ...
    @property
    def provenance(self) -> Mapping[str, Any]: ...
    def __getitem__(self, key: tuple[str, str]) -> Tensor: ...


def grids(explanation: Explained) -> Iterator[tuple[str, str, Tensor]]:
    """Method, layer and maps [B, T, *space] of every pair that exists."""
    for method in explanation.methods:
        for layer in explanation.layers:
            try:
                maps = explanation[method, layer]
            except (KeyError, LayerError):  # a method on pixels does not exist at every layer
                continue
            yield method, layer, maps
