"""``Explanation``: saliency maps, what they explain, and how they were made."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from pkgutil import resolve_name  # writers import explanations, so explanations look writers up by name
from typing import Any

import torch
from torch import Tensor

from saywhy import geometry
from saywhy.diagnostics import Diagnostics
from saywhy.errors import InputError, LayerError, MethodError, nearest
from saywhy.explanation.explainer import Explainer
from saywhy.explanation.files import save
from saywhy.explanation.fused import fuse_layers
from saywhy.explanation.heatmap import Normalize, heatmap
from saywhy.explanation.metadata import Metadata
from saywhy.images import SourceImage
from saywhy.methods.fusion import Fusion
from saywhy.methods.registry import find_method
from saywhy.output import ShownScore
from saywhy.shapes import Classes, MapStack, Scores
from saywhy.terminal import printable
from saywhy.validation import file_path, real_number, short_repr, whole_number

UNAVAILABLE = (
    "an explanation that was read from a file, copied, or made with keep_model=False has no model to run again. "
    "Explain once more with the model."
)


@dataclass(frozen=True, eq=False)
class Explanation:
    """Saliency maps for B samples and T targets, by method and layer; it can be pickled, copied and compared.

    ``e.maps`` are the maps of the first method and layer; ``e["layercam"]`` those of a method at its first layer;
    ``e["layercam", "layer3"]`` those of a method at a layer. Maps are raw: float32 (float64 for float64 models), on the
    layer's own grid, in the units of the method. Upsampling and normalisation are for display only.

    Attributes:
        methods: names, in the order given.
        layers: names, in the order given; for fused layers "layer3 + layer4 (mean)"; "input" for methods whose maps are
            of the image itself.
        targets: [batch][target] the names of the targets.
        classes: int [batch, target]; -1 where a target is not a single class.
        scores: float [batch, target] the score of every target.
        score: the kind of a class's score: the one that all methods have explained, or else what the network returns:
            ``"logit"``, ``"probability"`` or ``"log-probability"``; ``"value"`` for a number that is no class score, as
            a regression gives.
        probabilities: float [batch, target] for targets that are classes, NaN for the others; None without classes.
        input_size: (height, width) of the network's input in pixels.
        values: the maps [batch, target, *space] by (method, layer).
        completeness_errors: [batch, target] by (method, layer), for methods whose parts add up to the score.
        metadata: images, diagnostics and provenance.
        rerunner: runs the model again, or None; see :attr:`explainer`.
        unavailable: why there is no rerunner.
    """

    methods: tuple[str, ...]
    layers: tuple[str, ...]
    targets: list[list[str]]
    classes: Classes
    scores: Scores
    score: ShownScore
    probabilities: Scores | None
    input_size: tuple[int, ...]
    values: Mapping[tuple[str, str], Tensor]
    completeness_errors: Mapping[tuple[str, str], Scores]
    metadata: Metadata = field(repr=False)
    rerunner: "Explainer[Explanation] | None" = field(default=None, repr=False)
    unavailable: str = field(default=UNAVAILABLE, repr=False)

    @property
    def maps(self) -> MapStack:
        """The maps [batch, target, h, w] of the first method and layer."""
        return self[self.methods[0]]

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """(method, layer) of all maps: every method at every layer, or at "input" for methods of the image itself."""
        return tuple(self.values)

    @property
    def shows(self) -> dict[str, str]:
        """The meaning of each method's maps: "evidence", "sensitivity" or "activity"; see ``Method.shows``."""
        return {method: _shows(method) for method in self.methods}

    @property
    def completeness_error(self) -> Scores | None:
        """The completeness error [batch, target]: what the parts miss of the score's change, as a share of that change.

        It is that of the first method that has one (path methods); None if no method has one. 0 is complete.
        """
        return next(iter(self.completeness_errors.values()), None)

    def __getitem__(self, key: str | tuple[str, str]) -> MapStack:
        """The maps [batch, target, h, w] of a method, at its first layer or a named one.

        Raises:
            MethodError, LayerError: this explanation has no such method or layer.
            InputError: the key is not a method or (method, layer).
        """
        if isinstance(key, tuple) and len(key) != 2:
            raise InputError(f"an explanation is read as e[method] or e[method, layer], got {short_repr(key)}.")
        method, layer = key if isinstance(key, tuple) else (key, None)
        if not isinstance(method, str) or method not in self.methods:
            raise MethodError(_missing_message("method", method, self.methods))
        layer = layer if isinstance(key, tuple) else self.first_layer(method)
        if not isinstance(layer, str) or (method, layer) not in self.values:
            raise LayerError(_missing_message("layer", layer, tuple(has for m, has in self.pairs if m == method)))
        return self.values[method, layer]

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.targets)

    def __iter__(self) -> Iterator[Any]:
        raise TypeError("an Explanation is read by method, e['gradcam'], or by e.maps[sample, target]")

    def __repr__(self) -> str:
        batch, count, *grid = self.maps.shape
        first = ", ".join(
            f"{printable(name, one_line=True)} ({score:.3g})"
            for name, score in zip(self.targets[0][:3], self.scores[0, :3].tolist(), strict=True)
        )
        more = ", …" if count > 3 else ""
        each = " each, of the first" if batch > 1 else ""
        targets = f"{count} target{'s' * (count != 1)}{each}"
        return (
            f"Explanation of {batch} sample{'s' * (batch != 1)}, {targets}: {first}{more}; "
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
        """The maps upsampled (bilinear) and normalised for display.

        Args:
            size: (height, width); None takes the size of the network's input.
            normalize: ``"minmax"`` each map from its lowest to its highest value; ``"max"`` divides each map by its
                largest magnitude, so that zero stays zero and signs stay; ``"shared"`` uses one range for all maps
                of the explanation, to compare them; ``"rank"`` the share of positions that are lower;
                ``"none"`` raw values.
            method: None is the first.
            layer: None is the first.

        Returns:
            [batch, target, height, width], in [0, 1] for minmax, shared and rank, in [-1, 1] for max. A flat map is 0
            under minmax. Nothing is added to a denominator, so scores of any size give the same image.

        Raises:
            InputError: ``size`` or ``normalize`` has another value.
        """
        return heatmap(self._maps_of(method, layer), self.input_size if size is None else size, normalize)

    def on_image(self, sample: int = 0, target: int = 0, *, method: str | None = None, layer: str | None = None) -> Any:
        """One map on the original image: numpy [height, width], NaN outside the crop box.

        For a signal [length], for a volume [depth, height, width].
        """
        grid = self._grid(sample, target, method, layer)
        return geometry.on_image(grid, *self._crop_box_and_size(sample, grid))

    def peak(
        self, sample: int = 0, target: int = 0, *, method: str | None = None, layer: str | None = None
    ) -> tuple[float, ...] | None:
        """The peak of one map: (x, y) in pixels of the original image; None if no value is positive.

        For a signal (x,) in samples, for a volume (x, y, z) in voxels, z along its first axis.
        """
        grid = self._grid(sample, target, method, layer)
        return geometry.peak(grid, self._crop_box_and_size(sample, grid)[0])

    def box(
        self,
        sample: int = 0,
        target: int = 0,
        *,
        threshold: float = 0.15,
        method: str | None = None,
        layer: str | None = None,
    ) -> tuple[int, ...] | None:
        """The box around the largest connected part above ``threshold`` times the maximum (Grad-CAM, section 4.1).

        Returns:
            Left, top, right, bottom in pixels of the original image; for a signal start, stop in samples; for a volume
            left, top, front, right, bottom, back in voxels. None for a map without positive values.
        """
        grid = self._grid(sample, target, method, layer)
        threshold = real_number("threshold", threshold)
        return geometry.box(grid, *self._crop_box_and_size(sample, grid), threshold=threshold)

    def fuse(self, how: Fusion = "mean") -> "Explanation":
        """Fuse the layers into one, for every method; see :func:`saywhy.methods.fuse`."""
        return fuse_layers(self, how)

    def with_maps(self, values: Mapping[tuple[str, str], Tensor]) -> "Explanation":
        """The explanation with only these maps, by (method, layer), for display."""
        return replace(
            self,
            methods=tuple(dict.fromkeys(method for method, _ in values)),
            layers=tuple(dict.fromkeys(layer for _, layer in values)),
            values=dict(values),
        )

    def sample(self, index: int) -> "Explanation":
        """The explanation of one sample of the batch: its maps, targets, scores, image and diagnostics.

        Raises:
            InputError: there is no such sample.
        """
        self._check_index("sample", index, len(self))
        place = range(len(self))[int(index)]
        some = slice(place, place + 1)
        # Copies, and metadata that are computed now: nothing of the other samples is kept alive.
        metadata = Metadata(
            self.images[some],
            {pair: rows[some] for pair, rows in self.diagnostics.items()},
            {
                name: value[some] if name in ("images", "targets", "scores") else value
                for name, value in self.provenance.items()
            },
        )
        return replace(
            self,
            targets=self.targets[some],
            classes=self.classes[some].clone(),
            scores=self.scores[some].clone(),
            probabilities=None if self.probabilities is None else self.probabilities[some].clone(),
            values={pair: maps[some].clone() for pair, maps in self.values.items()},
            completeness_errors={pair: errors[some].clone() for pair, errors in self.completeness_errors.items()},
            metadata=metadata,
            rerunner=None if self.rerunner is None else self.rerunner.sample(place),
        )

    @property
    def explainer(self) -> "Explainer[Explanation]":
        """The rerunner, which runs the model again: :class:`saywhy.explainer.rerun.Rerunner`.

        It holds the model and the inputs. It is not part of the result: it is left out when an explanation is pickled,
        copied, compared or saved.

        Raises:
            InputError: there is no rerunner (the explanation was read from a file, copied, joined from several, or made
                with ``keep_model=False``), or the model's weights have changed.
        """
        if self.rerunner is None:
            raise InputError(self.unavailable)
        self.rerunner.check_version()
        return self.rerunner

    def without_explainer(self, reason: str | None = None) -> "Explanation":
        """The result only, without the model and its inputs.

        Args:
            reason: the error message of :attr:`explainer`; None says how to get one.
        """
        return replace(self, metadata=self.metadata.resolved(), rerunner=None, unavailable=reason or UNAVAILABLE)

    @property
    def counterfactual(self) -> "Explanation":
        """Explain the evidence against each target (Grad-CAM, section 3.3). Runs the model once."""
        if self.rerunner is None:
            raise InputError(self.unavailable)
        return self.rerunner.counterfactual()

    @property
    def images(self) -> tuple[SourceImage, ...]:
        """The original images, each with its crop box."""
        return self.metadata.images

    @property
    def diagnostics(self) -> Mapping[tuple[str, str], list[list[Diagnostics]]]:
        """The diagnostics of every map, [batch][target] by (method, layer)."""
        return self.metadata.diagnostics

    @property
    def provenance(self) -> dict[str, Any]:
        """How the maps were made: model, digest of its weights, layers, targets, methods, parameters, versions."""
        return self.metadata.provenance

    def to_dict(self) -> dict[str, Any]:
        """The result as plain data for JSON, with tensors and images as base64."""
        found: dict[str, Any] = resolve_name("saywhy.io.json:to_dict")(self)
        return found

    @staticmethod
    def from_dict(record: Mapping[str, Any]) -> "Explanation":
        """The explanation in a record of :meth:`to_dict`.

        Raises:
            InputError: it is not such a record, or of another version of the format.
        """
        found: Explanation = resolve_name("saywhy.io.json:from_dict")(record)
        return found

    def __eq__(self, other: object) -> bool:
        """Whether the results are the same, bit for bit; the explainer is not compared."""
        if not isinstance(other, Explanation):
            return NotImplemented
        plain = ("methods", "layers", "targets", "score", "input_size", "images", "diagnostics", "provenance")
        return (
            all(getattr(self, name) == getattr(other, name) for name in plain)
            and torch.equal(self.classes, other.classes)
            and _same(self.scores, other.scores)
            and _same(self.probabilities, other.probabilities)
            and _all_same(self.values, other.values)
            and _all_same(self.completeness_errors, other.completeness_errors)
        )

    __hash__ = None  # type: ignore[assignment]

    def __getstate__(self) -> dict[str, Any]:
        """The state for pickling, without the rerunner."""
        return vars(self.without_explainer(self.unavailable))

    def overlay(
        self, sample: int = 0, target: int = 0, *, method: str | None = None, layer: str | None = None, **look: Any
    ) -> Any:
        """One map over its image: a ``PIL.Image``.

        Args:
            sample, target: indices of the map.
            method, layer: the first by default.
            look: how the map is drawn (:class:`saywhy.view.look.Look`): ``cmap``, ``alpha``, ``threshold``, ``scale``,
                ``mark_peak``, ``draw_box``; and ``legend=False`` for the image alone, at its original size.

        Raises:
            InputError: there is no such sample or target, or ``look`` has another parameter or value.
            MethodError, LayerError: there is no such map.
        """
        self._grid(sample, target, method, layer)
        return resolve_name("saywhy.view.sheet:overlay_of")(self, sample, target, method, layer, **look)

    def figure(self, *, columns: int = 6, **look: Any) -> Any:
        """All maps as a ``matplotlib.figure.Figure`` for papers; ``look`` as for :meth:`overlay`.

        Raises:
            InputError: ``look`` has another parameter or value.
        """
        return resolve_name("saywhy.view.figure:figure")(self, columns=columns, **look)

    def save(self, path: str | os.PathLike[str], **look: Any) -> Path:
        """Write the explanation to a file; the suffix chooses the format.

        ``.html`` is a page with a viewer; ``.png`` and ``.jpg`` are one map with its legend, or all maps as a sheet;
        ``.pdf`` and ``.svg`` are :meth:`figure`; ``.npz`` can be read again. Every file contains the provenance. A file
        is written under another name and then renamed, so it is never incomplete.

        Args:
            path: the file.
            look: how maps are drawn: ``cmap``, ``alpha``, … (:class:`saywhy.view.look.Look`); ``legend=False`` writes
                a single map as ``.png`` or ``.jpg`` without legend, at the size of the original image.

        Raises:
            InputError: the suffix is another one, or ``look`` has another parameter or value.
            WriteError: the disk is full, or the folder cannot be written.
        """
        return save(self, path, **look)

    def show(self) -> None:
        """Show the explanation: the viewer in a notebook, elsewhere a window with the image."""
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
        page: str = resolve_name("saywhy.view.report:notebook_html")(self)
        return page

    def _crop_box_and_size(self, sample: int, grid: Tensor) -> tuple[tuple[float, ...], tuple[int, ...]]:
        """The crop box and the size of a sample, in pixels, samples or voxels, x first."""
        if grid.ndim == 2:
            source = self.images[sample]
            return source.crop_box, source.image.size
        size = self.input_size[::-1]
        return (*(0.0 for _ in size), *map(float, size)), size

    def _grid(self, sample: int, target: int, method: str | None, layer: str | None) -> Tensor:
        self._check_index("sample", sample, len(self))
        self._check_index("target", target, len(self.targets[0]))
        return self._maps_of(method, layer)[sample, target].detach()

    def _check_index(self, kind: str, index: int, count: int) -> None:
        if not -count <= whole_number(kind, index, low=None) < count:
            raise InputError(
                f"there is no {kind} {short_repr(index)}: this explanation has {count} {kind}s, 0 to {count - 1}."
            )

    def _maps_of(self, method: str | None, layer: str | None) -> MapStack:
        method = self.methods[0] if method is None else method
        return self[method] if layer is None else self[method, layer]

    def first_layer(self, method: str) -> str:
        """The first layer at which a method has a map."""
        return next((layer for m, layer in self.pairs if m == method), self.layers[0])

    @staticmethod
    def load(path: str | os.PathLike[str]) -> "Explanation":
        """Read a file that ``save("….npz")`` wrote: maps, targets, scores and provenance. No code in it is executed.

        Raises:
            InputError: the file is missing or was not written by saywhy.
        """
        found: Explanation = resolve_name("saywhy.io.npz:load_npz")(file_path("path", path))
        return found


def _shows(method: str) -> str:
    try:
        return find_method(method).shows
    except MethodError:  # a file may hold a method that is not installed here
        return "evidence"


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    """Whether two tensors hold the same numbers; NaN equals NaN."""
    if one is None or other is None:
        return one is other
    return (
        one.dtype == other.dtype and one.shape == other.shape and bool(torch.allclose(one, other, 0, 0, equal_nan=True))
    )


def _all_same(one: Mapping[tuple[str, str], Tensor], other: Mapping[tuple[str, str], Tensor]) -> bool:
    return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)


def _missing_message(kind: str, name: Any, known: tuple[str, ...]) -> str:
    if not isinstance(name, str):
        listed = ", ".join(known)
        return (
            f"this explanation has no {kind} {short_repr(name)}. It has {listed}; of its maps, e.maps[sample, target]."
        )
    likely = nearest(name, known, count=1) or list(known)
    return f"this explanation has no {kind} '{name}'. Nearest: '{likely[0]}'. It has {', '.join(known)}."
