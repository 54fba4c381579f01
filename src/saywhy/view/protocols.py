"""The protocols of explanations and task results that the view accepts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast, runtime_checkable

from PIL import Image
from torch import Tensor

from saywhy.errors import LayerError
from saywhy.geometry import CropBox, Tiles


@runtime_checkable
class DiagnosticLike(Protocol):
    """One diagnostic of a map; its state is "good", "warning" or "bad"."""

    @property
    def name(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def text(self) -> str: ...


class CheckResultLike(Protocol):
    """The result of one check; ``passed`` is None where the check does not apply."""

    @property
    def name(self) -> str: ...
    @property
    def passed(self) -> bool | None: ...
    @property
    def text(self) -> str: ...


class VerdictLike(Protocol):
    """The verdict on one map."""

    @property
    def passed(self) -> bool: ...
    @property
    def summary(self) -> str: ...
    @property
    def results(self) -> Sequence[CheckResultLike]: ...


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
    """An explanation of B images with T targets each.

    For signals and volumes ``images`` also have ``values``, which `saywhy.view.flat` draws as images.
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
    def images(self) -> Sequence[SourceImageLike]: ...
    @property
    def diagnostics(self) -> Mapping[tuple[str, str], Sequence[Sequence[Sequence[DiagnosticLike]]]]: ...
    @property
    def shows(self) -> Mapping[str, str]: ...
    @property
    def provenance(self) -> Mapping[str, Any]: ...
    def __getitem__(self, key: tuple[str, str]) -> Tensor: ...


@dataclass(frozen=True)
class Notes:
    """What the result of a task adds to the page of its explanation.

    Attributes:
        word_targets: the indices of the targets that are words of a sentence, in its order.
        uncertainty: the :class:`saywhy.uncertainty.report.UncertaintyReport` of the answer, or None.
        side_by_side: whether the maps of all targets are shown side by side, as for several captions.
        map_distances: [batch, 1] by (method, layer), the mean distance between the maps of the targets.
        target_notes: a line for every target, shown with its maps; empty where there is none.
        method_note: why the method was chosen, if the user gave none.
        in_python: how the explanation is named that :func:`saywhy.check` takes, where no command can test the maps.
        tested: [batch][target] by (method, layer), the verdicts of :func:`saywhy.check`; without one a map counts as
            not tested.
    """

    word_targets: Sequence[int] = ()
    uncertainty: Any = None
    side_by_side: bool = False
    map_distances: Mapping[tuple[str, str], Tensor] = field(default_factory=dict)
    target_notes: Sequence[str] = ()
    method_note: str = ""
    in_python: str = ""
    tested: Mapping[tuple[str, str], Sequence[Sequence["VerdictLike"]]] = field(default_factory=dict)

    def of_target(self, target: int) -> str:
        """Return the line of a target; empty where there is none."""
        return self.target_notes[target] if target < len(self.target_notes) else ""

    def verdict(self, sample: int, target: int, method: str, layer: str) -> "VerdictLike | None":
        """Return the verdict on one map; None if it was not tested."""
        found = self.tested.get((method, layer))
        return found[sample][target] if found else None


class TaskResultLike(Protocol):
    """The result of a task: it holds an explanation, and may have the attributes of :class:`Notes`."""

    @property
    def explanation(self) -> ExplanationLike: ...


def with_notes(shown: "ExplanationLike | TaskResultLike") -> tuple[ExplanationLike, Notes]:
    """Return the explanation of a result, and the notes of its task."""
    explanation: ExplanationLike | None = getattr(shown, "explanation", None)
    if explanation is None:
        return cast(ExplanationLike, shown), Notes()
    return explanation, Notes(**{n: getattr(shown, n) for n in Notes.__dataclass_fields__ if hasattr(shown, n)})


def grids(explanation: ExplanationLike) -> Iterator[tuple[str, str, Tensor]]:
    """Yield method, layer and maps [B, T, *space] of every pair that exists."""
    for method in explanation.methods:
        for layer in explanation.layers:
            try:
                maps = explanation[method, layer]
            except (KeyError, LayerError):  # a method on pixels does not exist at every layer
                continue
            yield method, layer, maps
