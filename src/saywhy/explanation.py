"""What comes out: maps, what they explain, and how they were made."""

import math
import operator
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from saywhy import geometry
from saywhy.diagnostics import Diagnostics
from saywhy.errors import InputError, LayerError, MethodError, nearest
from saywhy.explainer.rerun import Rerunner
from saywhy.images import SourceImage
from saywhy.methods.fusion import Fusion, fuse
from saywhy.methods.registry import find_method
from saywhy.output import ScoreKind
from saywhy.shapes import LINEAR, Classes, MapStack, Scores

if TYPE_CHECKING:
    from saywhy.uncertainty.report import UncertaintyReport

Normalize = Literal["minmax", "max", "shared", "rank", "none"]


@dataclass(frozen=True, eq=False)
class Explanation:
    """Maps for B samples and T targets, by method and layer.

    ``e.maps`` are those of the first method and layer; ``e["layercam"]`` of a method at the first layer,
    ``e["layercam", "layer3"]`` of a method at a layer. Maps are raw: float32 (float64 for float64 models), on the
    layer's own grid, in the units that the method says. Upsampling and normalising are display.

    Attributes:
        methods: names, in the order asked for.
        layers: names, in the order asked for; of a fusion "layer3 + layer4 (mean)"; "input" for methods whose maps are
            of the image itself.
        targets: [batch][target] what is explained, in words.
        classes: int [batch, target]; -1 where a target is not a single class.
        scores: float [batch, target] the score of every target.
        score: what that is of a target which is a class: what all of the methods have explained, or else the logit.
        probabilities: float [batch, target] of the targets that are classes, NaN for the others; None without classes.
        input_size: (height, width) of the network's input in pixels.
        words: the numbers of those targets that are the words of a sentence, in its order; () where there is none.
        certainty: [batch] how certain the model is, () where nobody asked (``saywhy.uncertainty.report``).
        beside: whether the targets are alternatives, whose maps are to be seen side by side
            (:func:`saywhy.tasks.captioning.caption.compare`).
    """

    methods: tuple[str, ...]
    layers: tuple[str, ...]
    targets: list[list[str]]
    classes: Classes
    scores: Scores
    score: ScoreKind
    probabilities: Scores | None
    input_size: tuple[int, ...]
    _maps: Mapping[tuple[str, str], Tensor]
    _completeness_errors: Mapping[tuple[str, str], Scores]
    _diagnostics: Callable[[str, str], list[list[Diagnostics]]] = field(repr=False)
    _images: Callable[[], tuple[SourceImage, ...]] = field(repr=False)
    _provenance: Callable[[], dict[str, Any]] = field(repr=False)
    _counterfactual: Callable[[], "Explanation"] = field(repr=False)
    _again: Callable[[], Rerunner] = field(repr=False)
    words: tuple[int, ...] = ()
    certainty: tuple["UncertaintyReport", ...] = ()
    beside: bool = False

    @property
    def maps(self) -> MapStack:
        """The maps [batch, target, h, w] of the first method and layer."""
        return self[self.methods[0]]

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """(method, layer) of all maps: every method at every layer, but that of the image itself at the input."""
        return tuple(self._maps)

    @property
    def shows(self) -> dict[str, str]:
        """What a value of each method's maps means: "evidence", "sensitivity" or "activity"; see ``Method.shows``."""
        return {method: _shown_by(method) for method in self.methods}

    @property
    def completeness_error(self) -> Scores | None:
        """By how much the parts fail to add up to the change of the score, as a share of it: [batch, target].

        Of the first method that keeps such an account (path methods); None where none does. 0 is complete.
        """
        return next(iter(self._completeness_errors.values()), None)

    @property
    def distances(self) -> dict[tuple[str, str], Scores]:
        """How differently the maps of alternatives look: [batch, 1], by method and layer.

        The mean over pairs of targets of 1 less their rank correlation (:func:`saywhy.metrics.diversity.map_distance`):
        0, the same order of places, to 2; unrelated maps have 1. Empty where the targets are no alternatives.
        """
        from saywhy.metrics.diversity import map_distance

        if not self.beside or len(self.targets[0]) < 2:
            return {}
        return {pair: map_distance(self[pair]) for pair in self.pairs}

    def __getitem__(self, key: str | tuple[str, str]) -> MapStack:
        """The maps [batch, target, h, w] of a method, at the first layer or a named one.

        Raises:
            MethodError, LayerError: this explanation has no such method or layer.
            InputError: the key is no method and no (method, layer).
        """
        if isinstance(key, tuple) and len(key) != 2:
            raise InputError(f"an explanation is read as e[method] or e[method, layer], got {key!r}.")
        method, layer = key if isinstance(key, tuple) else (key, self._first_layer(key))
        if method not in self.methods:
            raise MethodError(_absent("method", method, self.methods))
        if (method, layer) not in self._maps:
            raise LayerError(_absent("layer", layer, tuple(has for m, has in self.pairs if m == method)))
        return self._maps[method, layer]

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.targets)

    def __iter__(self) -> Iterator[Any]:
        raise TypeError("an Explanation is read by method, e['gradcam'], or by e.maps[sample, target]")

    def __repr__(self) -> str:
        batch, count, *grid = self.maps.shape
        first = ", ".join(
            f"{name} ({score:.3g})"
            for name, score in zip(self.targets[0][:3], self.scores[0, :3].tolist(), strict=True)
        )
        more = ", …" if count > 3 else ""
        return (
            f"Explanation of {batch} sample{'s' * (batch != 1)}, {count} target{'s' * (count != 1)}: {first}{more}; "
            f"{', '.join(self.methods)} at {', '.join(self.layers)}, {'×'.join(map(str, grid))}"
        )

    def heatmap(
        self,
        size: tuple[int, ...] | None = None,
        normalize: Normalize = "minmax",
        *,
        method: str | None = None,
        layer: str | None = None,
    ) -> MapStack:
        """The maps upsampled (bilinear) and put on a scale.

        Args:
            size: (height, width); None takes the size of the network's input.
            normalize: ``"minmax"`` each map from its lowest to its highest value; ``"max"`` divides each map by its
                largest magnitude, so that zero stays zero and signs stay; ``"shared"`` one lowest and highest value for
                all maps of the explanation, to compare them; ``"rank"`` the share of positions that are lower;
                ``"none"`` raw values.
            method: None is the first.
            layer: None is the first.

        Returns:
            [batch, target, height, width], in [0, 1] for minmax, shared and rank, in [-1, 1] for max. A flat map is 0
            under minmax. Nothing is added to a denominator, so scores of any size give the same image.

        Raises:
            InputError: ``size`` or ``normalize`` is none of these.
        """
        maps = self._asked(method, layer)
        target_size = _whole_numbers(size) if size is not None else self.input_size
        if target_size is None or len(target_size) != maps.ndim - 2:
            axes = {1: "whole number (length,)", 2: "whole numbers (height, width)"}
            raise InputError(f"size must be {maps.ndim - 2} {axes.get(maps.ndim - 2, 'whole numbers')}, got {size!r}.")
        return _normalized(
            interpolate(maps, target_size, mode=LINEAR[len(target_size)], align_corners=False), normalize
        )

    def on_image(self, sample: int = 0, target: int = 0, *, method: str | None = None, layer: str | None = None) -> Any:
        """One map on the original image: numpy [height, width], NaN where the network did not see.

        Of a signal [length], of a volume [depth, height, width].
        """
        grid = self._grid(sample, target, method, layer)
        return geometry.on_image(grid, *self._whole(sample, grid))

    def peak(
        self, sample: int = 0, target: int = 0, *, method: str | None = None, layer: str | None = None
    ) -> tuple[float, ...] | None:
        """Where one map is highest: (x, y) in pixels of the original image; None where nothing is positive.

        Of a signal (x,) in samples, of a volume (x, y, z) in voxels, z along its first axis.
        """
        grid = self._grid(sample, target, method, layer)
        return geometry.peak(grid, self._whole(sample, grid)[0])

    def box(
        self,
        sample: int = 0,
        target: int = 0,
        *,
        threshold: float = 0.15,
        method: str | None = None,
        layer: str | None = None,
    ) -> tuple[int, ...] | None:
        """The box round the largest part of one map above ``threshold`` times its maximum (Grad-CAM, section 4.1).

        Returns:
            Left, top, right, bottom in pixels of the original image; of a signal start, stop in samples; of a volume
            left, top, front, right, bottom, back in voxels. None for a map without positive values.
        """
        grid = self._grid(sample, target, method, layer)
        return geometry.box(grid, *self._whole(sample, grid), threshold=threshold)

    def fuse(self, how: Fusion = "mean") -> "Explanation":
        """The layers fused into one, for every method; see :func:`saywhy.methods.fuse`."""
        own = {m: [layer for method, layer in self.pairs if method == m] for m in self.methods}
        names = {m: f"{' + '.join(some)} ({how})" if some != ["input"] else "input" for m, some in own.items()}
        maps = {
            (m, names[m]): fuse([self._maps[m, layer] for layer in some], how) if some != ["input"] else self[m]
            for m, some in own.items()
        }
        return self._with(
            layers=tuple(dict.fromkeys(names.values())),
            _maps=maps,
            _completeness_errors={
                (m, names[m]): _widest(torch.stack([g for key, g in self._completeness_errors.items() if key[0] == m]))
                for m in dict.fromkeys(m for m, _ in self._completeness_errors)
            },
            _diagnostics=lambda m, _: _worst([self.cards[m, layer] for layer in own[m]]),
            _counterfactual=lambda: self.counterfactual.fuse(how),
            _again=lambda: self._again().then(lambda other: other.fuse(how)),
            _provenance=lambda: {**self.provenance, "fuse": how},
        )

    @property
    def counterfactual(self) -> "Explanation":
        """The question turned round: what speaks against each target (Grad-CAM, section 3.3). Runs the model once."""
        return self._counterfactual()

    @cached_property
    def images(self) -> tuple[SourceImage, ...]:
        """The original images, and which part of each the network saw."""
        return self._images()

    @cached_property
    def cards(self) -> dict[tuple[str, str], list[list[Diagnostics]]]:
        """The validity card of every map: by (method, layer), [batch][target]."""
        return {(m, layer): self._diagnostics(m, layer) for m, layer in self.pairs}

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Where the maps come from: model, digest of its weights, layers, targets, methods, parameters, versions."""
        return self._provenance()

    def overlay(
        self, sample: int = 0, target: int = 0, *, method: str | None = None, layer: str | None = None, **look: Any
    ) -> Any:
        """One map over its image, with a legend: a ``PIL.Image``. ``look`` as for ``saywhy.view.overlay``."""
        from saywhy.view.sheet import overlay_of

        return overlay_of(self, sample, target, method, layer, **look)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the explanation; the suffix says how: ``.png``, ``.html`` or ``.npz``.

        Every file has the provenance in it. A file is written under another name and then renamed, so that it is
        never half there.

        Raises:
            InputError: the suffix is none of these, or the folder cannot be written.
        """
        from saywhy import view
        from saywhy.io.npz import save_npz

        file = Path(path)
        writers = {".png": view.save_png, ".html": view.save_html, ".npz": save_npz}
        if file.suffix.lower() not in writers:
            raise InputError(f"'{file}': the suffix must be {', '.join(writers)}, got '{file.suffix}'.")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            writers[file.suffix.lower()](self, file)
        except OSError as error:
            raise InputError(f"'{file}' cannot be written: {error}") from error
        return file

    def show(self) -> None:
        """Show the explanation: in a notebook the viewer, elsewhere a window with the image."""
        try:
            from IPython import get_ipython
            from IPython.display import HTML, display
        except ImportError:
            self.overlay().show()
            return
        if get_ipython() is None:
            self.overlay().show()
        else:
            display(HTML(self._repr_html_()))

    def _repr_html_(self) -> str:
        from saywhy.view import notebook_html

        return notebook_html(self)

    def _whole(self, sample: int, grid: Tensor) -> tuple[tuple[float, ...], tuple[int, ...]]:
        """What the network saw of a sample, and how large the sample is: in pixels, samples or voxels, x first."""
        if grid.ndim == 2:
            source = self.images[sample]
            return source.crop_box, source.image.size
        size = self.input_size[::-1]
        return (*(0.0 for _ in size), *map(float, size)), size

    def _grid(self, sample: int, target: int, method: str | None, layer: str | None) -> Tensor:
        for kind, index, count in (("sample", sample, len(self)), ("target", target, len(self.targets[0]))):
            if not isinstance(index, int) or not -count <= index < count:
                raise InputError(
                    f"there is no {kind} {index!r}: this explanation has {count} {kind}s, 0 to {count - 1}."
                )
        return self._asked(method, layer)[sample, target].detach()

    def _asked(self, method: str | None, layer: str | None) -> MapStack:
        method = method or self.methods[0]
        return self[method, layer or self._first_layer(method)]

    def _first_layer(self, method: Any) -> str:
        """The first layer at which a method has a map."""
        return next((layer for m, layer in self.pairs if m == method), self.layers[0])

    def with_certainty(self, report: Sequence["UncertaintyReport"]) -> "Explanation":
        """The same with how certain the model is of every sample, to be shown beside the maps.

        Raises:
            InputError: there is not one for each sample.
        """
        if len(report) != len(self.targets):
            raise InputError(f"certainty is report of each of {len(self.targets)} samples, got {len(report)}.")
        return self._with(certainty=tuple(report))

    def _with(self, **changes: Any) -> "Explanation":
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return Explanation(**{**fields, "_provenance": lambda: self.provenance, **changes})

    @staticmethod
    def load(path: str | os.PathLike[str]) -> "Explanation":
        """Read what ``save("….npz")`` wrote: maps, targets, scores and provenance. Nothing in it is executed.

        Raises:
            InputError: the file is missing or was not written by saywhy.
        """
        from saywhy.io.npz import load_npz

        return load_npz(Path(path))


def _shown_by(method: str) -> str:
    try:
        return find_method(method).shows
    except MethodError:  # a file may come from where there were methods that are not here
        return "evidence"


def _normalized(maps: MapStack, how: Normalize) -> MapStack:
    """Maps [batch, target, *space] on the scale asked for."""
    if how == "none":
        return maps
    space = tuple(range(2, maps.ndim))
    if how == "rank":
        flat = maps.flatten(2)
        # Equal values share a rank, so that the zeros of a rectified map stay at the bottom together.
        ranks = torch.searchsorted(flat.sort(-1).values, flat.contiguous()).to(maps.dtype)
        return (ranks / max(1, flat.shape[-1] - 1)).view_as(maps)
    if how == "max":
        return _divided(maps, maps.abs().amax(space, keepdim=True))
    if how == "minmax":
        low = maps.amin(space, keepdim=True)
        return _divided(maps - low, maps.amax(space, keepdim=True) - low)
    if how == "shared":
        low = maps.min()
        return _divided(maps - low, maps.max() - low)
    raise InputError(f"normalize must be 'minmax', 'max', 'shared', 'rank' or 'none', got {how!r}.")


def _divided(maps: Tensor, by: Tensor) -> Tensor:
    """``maps / by``, zero where ``by`` is; in float64, because 1e-40 is no number to divide by in float32."""
    wide = maps.double() / torch.where(by > 0, by, 1.0).double()
    return wide.to(maps.dtype)


def _whole_numbers(size: Any) -> tuple[int, ...] | None:
    """A size as positive integers of any kind (numpy's too); None if it is none."""
    try:
        sides = tuple(operator.index(side) for side in size if not isinstance(side, bool))
    except TypeError:
        return None
    return sides if len(sides) == len(size) and all(side > 0 for side in sides) else None


def _widest(gaps: Tensor) -> Tensor:
    """Of several layers' gaps [layer, batch, target] the one of largest magnitude, with its sign."""
    return gaps.gather(0, gaps.abs().nan_to_num(math.inf).argmax(0, keepdim=True))[0]


def _worst(by_layer: Sequence[list[list[Diagnostics]]]) -> list[list[Diagnostics]]:
    """The cards of several layers as one: of every fact the worst, because the map is made of all of them."""

    def joined(cards: Sequence[Diagnostics]) -> Diagnostics:
        facts = [fact for card in cards for fact in card]
        names = dict.fromkeys(fact.name for fact in facts)
        return tuple(max((f for f in facts if f.name == n), key=lambda f: _STATES.index(f.state)) for n in names)

    samples, targets = range(len(by_layer[0])), range(len(by_layer[0][0]))
    return [[joined([cards[b][t] for cards in by_layer]) for t in targets] for b in samples]


_STATES = ("good", "warning", "bad")


def _absent(kind: str, name: Any, known: tuple[str, ...]) -> str:
    if not isinstance(name, str):
        return (
            f"this explanation has no {kind} {name!r}. It has {', '.join(known)}; of its maps, e.maps[sample, target]."
        )
    likely = nearest(name, known, count=1) or list(known)
    return f"this explanation has no {kind} '{name}'. Nearest: '{likely[0]}'. It has {', '.join(known)}."
