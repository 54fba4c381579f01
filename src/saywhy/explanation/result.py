"""What comes out: maps, what they explain, and how they were made."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from pkgutil import resolve_name  # writers know explanations; explanations know writers by name alone
from typing import Any

import torch
from torch import Tensor

from saywhy import geometry
from saywhy.diagnostics import Diagnostics
from saywhy.errors import InputError, LayerError, MethodError, nearest
from saywhy.explanation.explainer import Explainer
from saywhy.explanation.heatmap import Normalize, heatmap
from saywhy.explanation.metadata import Metadata
from saywhy.images import SourceImage
from saywhy.methods.fusion import Fusion, fuse
from saywhy.methods.registry import find_method
from saywhy.output import ScoreKind
from saywhy.shapes import Classes, MapStack, Scores

UNAVAILABLE = (
    "an explanation that was read from a file, copied, or made with keep_model=False has no model to ask again. "
    "Explain once more with the model."
)


@dataclass(frozen=True, eq=False)
class Explanation:
    """Maps for B samples and T targets, by method and layer: a plain result that can be pickled, copied and compared.

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
        values: the maps [batch, target, *space] by (method, layer).
        completeness_errors: [batch, target] by (method, layer), for methods whose parts add up to the score.
        metadata: images, diagnostics and provenance.
        rerunner: what asks the model again, or None; see :attr:`explainer`.
        unavailable: why there is no rerunner.
    """

    methods: tuple[str, ...]
    layers: tuple[str, ...]
    targets: list[list[str]]
    classes: Classes
    scores: Scores
    score: ScoreKind
    probabilities: Scores | None
    input_size: tuple[int, ...]
    values: Mapping[tuple[str, str], Tensor]
    completeness_errors: Mapping[tuple[str, str], Scores]
    metadata: Metadata = field(repr=False)
    rerunner: Explainer | None = field(default=None, repr=False)
    unavailable: str = field(default=UNAVAILABLE, repr=False)

    @property
    def maps(self) -> MapStack:
        """The maps [batch, target, h, w] of the first method and layer."""
        return self[self.methods[0]]

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """(method, layer) of all maps: every method at every layer, but that of the image itself at the input."""
        return tuple(self.values)

    @property
    def shows(self) -> dict[str, str]:
        """What a value of each method's maps means: "evidence", "sensitivity" or "activity"; see ``Method.shows``."""
        return {method: _shown_by(method) for method in self.methods}

    @property
    def completeness_error(self) -> Scores | None:
        """By how much the parts fail to add up to the change of the score, as a share of it: [batch, target].

        Of the first method that keeps such an account (path methods); None where none does. 0 is complete.
        """
        return next(iter(self.completeness_errors.values()), None)

    def __getitem__(self, key: str | tuple[str, str]) -> MapStack:
        """The maps [batch, target, h, w] of a method, at the first layer or a named one.

        Raises:
            MethodError, LayerError: this explanation has no such method or layer.
            InputError: the key is no method and no (method, layer).
        """
        if isinstance(key, tuple) and len(key) != 2:
            raise InputError(f"an explanation is read as e[method] or e[method, layer], got {key!r}.")
        method, layer = key if isinstance(key, tuple) else (key, self.first_layer(key))
        if method not in self.methods:
            raise MethodError(_absent("method", method, self.methods))
        if (method, layer) not in self.values:
            raise LayerError(_absent("layer", layer, tuple(has for m, has in self.pairs if m == method)))
        return self.values[method, layer]

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
        return heatmap(self._asked(method, layer), self.input_size if size is None else size, normalize)

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
        values = {
            (m, names[m]): fuse([self.values[m, layer] for layer in some], how) if some != ["input"] else self[m]
            for m, some in own.items()
        }
        errors = {
            (m, names[m]): _largest(torch.stack([e for key, e in self.completeness_errors.items() if key[0] == m]))
            for m in dict.fromkeys(m for m, _ in self.completeness_errors)
        }
        metadata = Metadata(
            images=lambda: self.images,
            diagnostics=lambda: {
                (m, names[m]): _worst([self.diagnostics[m, layer] for layer in some]) for m, some in own.items()
            },
            provenance=lambda: {**self.provenance, "fuse": how},
        )
        return replace(
            self,
            layers=tuple(dict.fromkeys(names.values())),
            values=values,
            completeness_errors=errors,
            metadata=metadata,
            rerunner=self.rerunner.then(lambda other: other.fuse(how)) if self.rerunner is not None else None,
        )

    def with_maps(self, values: Mapping[tuple[str, str], Tensor]) -> "Explanation":
        """The same with these maps alone, by (method, layer), for display."""
        return replace(
            self,
            methods=tuple(dict.fromkeys(method for method, _ in values)),
            layers=tuple(dict.fromkeys(layer for _, layer in values)),
            values=dict(values),
        )

    @property
    def explainer(self) -> Explainer:
        """What asks the model again: :class:`saywhy.explainer.rerun.Rerunner`.

        It holds the model and the inputs. It is no part of the result: it is left out when an explanation is pickled,
        copied, compared or saved.

        Raises:
            InputError: there is none (the explanation was read from a file, copied, joined from several, or made with
                ``keep_model=False``), or the model's weights have changed.
        """
        if self.rerunner is None:
            raise InputError(self.unavailable)
        self.rerunner.check_version()
        return self.rerunner

    def without_explainer(self, reason: str | None = None) -> "Explanation":
        """The result alone: nothing of the model or of its inputs is held any longer.

        Args:
            reason: what to tell whoever asks for the explainer; None says how to get one.
        """
        return replace(self, metadata=self.metadata.resolved(), rerunner=None, unavailable=reason or UNAVAILABLE)

    @property
    def counterfactual(self) -> "Explanation":
        """The request turned round: what speaks against each target (Grad-CAM, section 3.3). Runs the model once."""
        if self.rerunner is None:
            raise InputError(self.unavailable)
        return self.rerunner.counterfactual()

    @property
    def images(self) -> tuple[SourceImage, ...]:
        """The original images, and which part of each the network saw."""
        return self.metadata.images

    @property
    def diagnostics(self) -> Mapping[tuple[str, str], list[list[Diagnostics]]]:
        """The diagnostics of every map: by (method, layer), [batch][target]."""
        return self.metadata.diagnostics

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the maps come from: model, digest of its weights, layers, targets, methods, parameters, versions."""
        return self.metadata.provenance

    def to_dict(self) -> dict[str, Any]:
        """The result as plain data that JSON can hold; tensors and images as base64."""
        found: dict[str, Any] = resolve_name("saywhy.io.json:to_dict")(self)
        return found

    @staticmethod
    def from_dict(record: Mapping[str, Any]) -> "Explanation":
        """The result of :meth:`to_dict`.

        Raises:
            InputError: it is none, or of another version of the format.
        """
        found: Explanation = resolve_name("saywhy.io.json:from_dict")(record)
        return found

    def __eq__(self, other: object) -> bool:
        """Whether the results are the same, bit for bit; the explainer does not count."""
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
        """Without what asks the model again."""
        return vars(self.without_explainer(self.unavailable))

    def overlay(
        self, sample: int = 0, target: int = 0, *, method: str | None = None, layer: str | None = None, **look: Any
    ) -> Any:
        """One map over its image, with a legend: a ``PIL.Image``. ``look`` as for ``saywhy.view.overlay``."""
        return resolve_name("saywhy.view.sheet:overlay_of")(self, sample, target, method, layer, **look)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the explanation; the suffix says how: ``.png``, ``.html`` or ``.npz``.

        Every file has the provenance in it. A file is written under another name and then renamed, so that it is
        never half there.

        Raises:
            InputError: the suffix is none of these, or the folder cannot be written.
        """
        file = Path(path)
        writers = {".png": "saywhy.view.sheet:save_png", ".html": "saywhy.view.report:save_html"}
        writers |= {".npz": "saywhy.io.npz:save_npz"}
        if file.suffix.lower() not in writers:
            raise InputError(f"'{file}': the suffix must be {', '.join(writers)}, got '{file.suffix}'.")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            resolve_name(writers[file.suffix.lower()])(self, file)
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
        page: str = resolve_name("saywhy.view.report:notebook_html")(self)
        return page

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
        return self[method, layer or self.first_layer(method)]

    def first_layer(self, method: str) -> str:
        """The first layer at which a method has a map."""
        return next((layer for m, layer in self.pairs if m == method), self.layers[0])

    @staticmethod
    def load(path: str | os.PathLike[str]) -> "Explanation":
        """Read what ``save("….npz")`` wrote: maps, targets, scores and provenance. Nothing in it is executed.

        Raises:
            InputError: the file is missing or was not written by saywhy.
        """
        found: Explanation = resolve_name("saywhy.io.npz:load_npz")(Path(path))
        return found


def _shown_by(method: str) -> str:
    try:
        return find_method(method).shows
    except MethodError:  # a file may come from where there were methods that are not here
        return "evidence"


def _largest(errors: Tensor) -> Tensor:
    """Of several layers' completeness errors [layer, batch, target] the one of largest magnitude, with its sign."""
    return errors.gather(0, errors.abs().nan_to_num(math.inf).argmax(0, keepdim=True))[0]


def _worst(by_layer: Sequence[list[list[Diagnostics]]]) -> list[list[Diagnostics]]:
    """The diagnostics of several layers as one: the worst of each name, because the map is made of all of them."""

    def joined(several: Sequence[Diagnostics]) -> Diagnostics:
        found = [one for some in several for one in some]
        names = dict.fromkeys(one.name for one in found)
        return tuple(max((f for f in found if f.name == n), key=lambda f: _STATES.index(f.state)) for n in names)

    samples, targets = range(len(by_layer[0])), range(len(by_layer[0][0]))
    return [[joined([layer[b][t] for layer in by_layer]) for t in targets] for b in samples]


_STATES = ("good", "warning", "bad")


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    """Whether two tensors hold the same numbers, NaN for NaN."""
    if one is None or other is None:
        return one is other
    return (
        one.dtype == other.dtype and one.shape == other.shape and bool(torch.allclose(one, other, 0, 0, equal_nan=True))
    )


def _all_same(one: Mapping[tuple[str, str], Tensor], other: Mapping[tuple[str, str], Tensor]) -> bool:
    return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)


def _absent(kind: str, name: Any, known: tuple[str, ...]) -> str:
    if not isinstance(name, str):
        return (
            f"this explanation has no {kind} {name!r}. It has {', '.join(known)}; of its maps, e.maps[sample, target]."
        )
    likely = nearest(name, known, count=1) or list(known)
    return f"this explanation has no {kind} '{name}'. Nearest: '{likely[0]}'. It has {', '.join(known)}."
