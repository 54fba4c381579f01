"""Textual explanations: the channels of highest and lowest importance for a target, by name or by example images."""

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from torch import Tensor, nn

from saywhy.engine.layout import Layout
from saywhy.engine.trace import Candidate
from saywhy.errors import ImageError, InputError, SaywhyWarning
from saywhy.explainer.config import ExplainConfig
from saywhy.explainer.prepare import prepare
from saywhy.explainer.runner import Runner
from saywhy.images import Box, images_in, read_image
from saywhy.io.limits import check_text, parse_json
from saywhy.models import Model
from saywhy.models.inputs import as_batch
from saywhy.output import ScoreKind
from saywhy.progress import counted
from saywhy.shapes import at_least_float32
from saywhy.targets import as_target
from saywhy.validation import MOST, file_path, index_in, real_number, short_repr, whole_number

LEAST_IOU = 0.05
"""The minimum intersection over union of a neuron and its concept (Grad-CAM paper, section 7)."""

CROP = 0.25
"""Side of the crop around a peak, as a share of the crop box; at least one cell of the map."""


@dataclass(frozen=True)
class Example:
    """An image that activates a channel.

    Attributes:
        path: the file.
        value: the channel's largest activation in it.
        box: left, top, right, bottom around the peak, in pixels of the image.
    """

    path: Path
    value: float
    box: Box

    def crop(self) -> Any:
        """Return the image region around the peak: a ``PIL.Image``."""
        left, top, right, bottom = self.box
        return read_image(self.path).crop((round(left), round(top), round(right), round(bottom)))


@dataclass(frozen=True)
class Channel:
    """A channel of the layer, with its name and example images.

    Attributes:
        index: its number, from 0.
        weight: its importance alpha (Grad-CAM, equation 1), the mean gradient of the score.
        name: of its concept; None where it is unknown.
        examples: the images with the highest activations, the highest first.
    """

    index: int
    weight: float
    name: str | None = None
    examples: tuple[Example, ...] = ()

    def __str__(self) -> str:
        shown = self.name or f"channel {self.index}"
        like = f" like {', '.join(e.path.name for e in self.examples)}" if self.examples else ""
        return f"{shown} ({self.weight:+.3g}){like}"


@dataclass(frozen=True)
class ChannelExplanation:
    """A textual explanation of one target of one image.

    Attributes:
        image: its name.
        target: its name.
        score: of the target.
        layer: its name.
        present: the channels of highest importance, the highest first: their presence raises the score.
        absent: the channels of lowest importance, the lowest first: their absence would raise the score.
    """

    image: str
    target: str
    score: float
    layer: str
    present: tuple[Channel, ...]
    absent: tuple[Channel, ...]

    def __str__(self) -> str:
        apart = "\n    " if any(c.examples for c in (*self.present, *self.absent)) else ", "
        first = apart if apart != ", " else " "
        return (
            f"{self.image}: {self.target} ({self.score:.4g}), evidence in layer {self.layer}\n"
            f"  evidence by presence of:{first}{apart.join(map(str, self.present))}\n"
            f"  evidence by absence of:{first}{apart.join(map(str, self.absent))}"
        )


@dataclass(frozen=True, eq=False)
class TextualExplanation:
    """Textual explanations of all samples and targets; ``print`` shows them.

    Attributes:
        words: [batch][target].
        weights: [batch, target, channel] the importance of every channel.
    """

    words: tuple[tuple[ChannelExplanation, ...], ...]
    weights: Tensor

    def __str__(self) -> str:
        return "\n\n".join(str(one) for row in self.words for one in row)

    def save(self, path: "str | os.PathLike[str]") -> Path:
        """Write a page (``.html``) that shows each channel by crops of the images that activate it most.

        Raises:
            InputError: the suffix is another one.
            WriteError: the file cannot be written.
        """
        file = file_path("path", path)
        if file.suffix.lower() != ".html":
            raise InputError(f"'{file}': the suffix must be .html, got '{file.suffix}'.")
        resolve_name("saywhy.view.textual:save_textual")(self, file)  # the view imports this package
        return file


def textual(
    model: "str | nn.Module | Model",
    inputs: Any,
    target: Any = None,
    layer: str | nn.Module | None = None,
    *,
    count: int = 5,
    concepts: "Mapping[int, Any] | str | os.PathLike[str] | None" = None,
    folder: "str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None" = None,
    examples: int = 3,
    least_iou: float | int = LEAST_IOU,
    score: ScoreKind | None = None,
    layout: Layout | None = None,
    output: str | int | None = None,
) -> TextualExplanation:
    r"""Return textual explanations (Grad-CAM paper, section 7): the most important channels for a target, by name.

    Channels are sorted by their importance :math:`\alpha_k = \frac{1}{Z} \sum_p \partial y / \partial A^k_p`.

    Args:
        model: as for :func:`saywhy.explain`.
        inputs: as for :func:`saywhy.explain`.
        target: as for :func:`saywhy.explain`.
        layer: a name or a module; None chooses it automatically. ``concepts`` must name the channels of this layer.
        count: number of channels of highest, and of lowest importance.
        concepts: names of channels (e.g. from Network Dissection): a mapping from channel indices, or a JSON file with
            such an object. Each is a name, or ``{"name": "fur", "iou": 0.12}``.
        folder: of images, or a list of images; channels are also described by those that activate them most.
        examples: number of these images per channel.
        least_iou: names with a lower ``iou`` are not used; 0.05 in the paper.
        score: the kind of class score; None is the logit.
        layout: the layer's layout, where it cannot be detected.
        output: the position of the class scores in the model's output.

    Returns:
        :class:`TextualExplanation`. Channels without a name are listed as ``channel 7``, because they are part of the
        explanation too (the paper omits them, which leads to its "elevator door" without doors).

    Raises:
        InputError: a parameter is out of range, or the file of names is malformed.
        ImageError: the folder holds no image that can be read.

    >>> import torch
    >>> network = nn.Sequential(nn.Identity(), nn.Flatten(), nn.Linear(6, 1, bias=False))
    >>> network[2].weight.data = torch.tensor([[2.0, 2.0, 2.0, -1.0, -1.0, -1.0]])
    >>> layout, image = Layout("channels-first", (1, 3)), torch.ones(1, 2, 1, 3)
    >>> names = {0: "stripes", 1: {"name": "sky", "iou": 0.01}}
    >>> print(textual(network, image, 0, "0", layout=layout, count=1, concepts=names))
    input: output 0 (3), evidence in layer 0
      evidence by presence of: stripes (+2)
      evidence by absence of: channel 1 (-1)
    """
    count, examples = whole_number("count", count, 1), whole_number("examples", examples, 1)
    least_iou = real_number("least_iou", least_iou, 0, 1)
    named = names_of(concepts, least_iou) if concepts is not None else {}
    if isinstance(folder, str | os.PathLike) and not Path(folder).is_dir():
        raise InputError(f"folder must be a folder of images, but '{os.fspath(folder)}' is none.")
    given = [folder] if isinstance(folder, str | os.PathLike) else folder or []
    files = list(images_in(list(given))) if given else []
    config = ExplainConfig(as_target(target), layer=layer, layout=layout, score=score, output=output)
    runner, batch = prepare(model, inputs, config)
    captured, target_scores, (candidate,) = runner.capture(batch)
    (G,) = captured.gradients().values()
    weights = at_least_float32(G).flatten(3).mean(3).detach().cpu()  # (batch, target, channel)
    beyond = [index for index in named if index >= weights.shape[2]]
    if beyond:
        raise InputError(
            f"there is a name for channel {beyond[0]}, but layer '{candidate.name}' has {weights.shape[2]} channels, "
            "counted from 0. Give the names of this layer's channels."
        )
    ranked = [[_extreme_channels(row, count) for row in sample] for sample in weights]
    wanted = sorted({index for sample in ranked for ends in sample for some in ends for index in some})
    activating = maximally_activating(runner, candidate, files, wanted, examples) if files else {}
    images = batch.images()

    def channels(indices: Sequence[int], own: Tensor) -> tuple[Channel, ...]:
        return tuple(Channel(i, float(own[i]), named.get(i), activating.get(i, ())) for i in indices)

    words = [
        [
            ChannelExplanation(
                image=images[b].name,
                target=target_scores.names[b][t],
                score=float(target_scores.scores[b, t]),
                layer=candidate.name,
                present=channels(first, weights[b, t]),
                absent=channels(last, weights[b, t]),
            )
            for t, (first, last) in enumerate(sample)
        ]
        for b, sample in enumerate(ranked)
    ]
    return TextualExplanation(tuple(map(tuple, words)), weights)


def _extreme_channels(weights: Tensor, count: int) -> tuple[list[int], list[int]]:
    """Return the channels of highest weight and those of lowest; none is in both lists."""
    order = weights.argsort(descending=True, stable=True).tolist()
    first = order[:count]
    return first, order[len(first) :][::-1][:count]


def names_of(
    concepts: "Mapping[int, Any] | str | os.PathLike[str]", least_iou: float | int = LEAST_IOU
) -> dict[int, str]:
    """Return names by channel, without those of too low intersection over union.

    Args:
        concepts: a mapping or a JSON file; see :func:`textual`.
        least_iou: the minimum intersection over union; names without one are kept.

    Raises:
        InputError: the file cannot be read, or an entry is not a channel with a name.

    >>> names_of({"3": "fur", 4: {"name": "sky", "iou": 0.04}})
    {3: 'fur'}
    """
    entries = concepts if isinstance(concepts, Mapping) else _read(file_path("concepts", concepts))
    found = {}
    for key, entry in entries.items():
        index = key if isinstance(key, int) else index_in(str(key))
        if index is None or not 0 <= index <= MOST or isinstance(key, bool):
            raise InputError(f"the key of a concept must be a channel, a number from 0, got {short_repr(key)}.")
        name, iou = (entry.get("name"), entry.get("iou")) if isinstance(entry, Mapping) else (entry, None)
        if not isinstance(name, str) or not name.strip():
            raise InputError(
                f'channel {index} needs a name, "fur" or {{"name": "fur", "iou": 0.12}}, got {short_repr(entry)}.'
            )
        if iou is None or real_number(f"the iou of channel {index}", iou, 0, 1) >= least_iou:
            found[index] = name.strip()
    return found


def _read(path: Path) -> Mapping[str, Any]:
    try:
        check_text(path, InputError)
        entries = parse_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"the file of concepts '{path}' cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise InputError(f"the file of concepts '{path}' is no JSON: {error}.") from error
    if not isinstance(entries, dict):
        raise InputError(
            f"the file of concepts '{path}' must be a JSON object of channels, "
            f'{{"12": {{"name": "fur", "iou": 0.12}}}}, got a {type(entries).__name__}.'
        )
    return entries


def maximally_activating(
    runner: Runner, candidate: Candidate, files: Sequence[Path], channels: Sequence[int], count: int
) -> dict[int, tuple[Example, ...]]:
    """Return the images that activate each channel most, by its largest activation; only those above 0.

    Raises:
        ImageError: none of the files can be read.
    """
    runner = runner.with_config(target=as_target(None), layer=candidate.name)
    found: dict[int, list[Example]] = {index: [] for index in channels}
    failed: list[str] = []
    with counted("running images", len(files)) as advance:
        for file in files:
            advance(1)
            try:
                batch = as_batch(runner.model, file)
            except ImageError as error:  # one damaged image does not stop the others
                failed.append(str(error))
                continue
            captured, _, (here,) = runner.capture(batch)
            (A,) = captured.activations.values()
            placed = here.watched().layout.on_image(A[:1, list(channels)], batch.space)[0]
            (source,) = batch.images()
            for index, values in zip(channels, placed, strict=True):
                value = float(values.max())
                if value > 0:
                    box = _box(values, source.crop_box, source.image.size)
                    found[index] = sorted([*found[index], Example(file, value, box)], key=_by_value)[:count]
    if len(failed) == len(files):
        raise ImageError(f"no image of the folder can be read. The first: {failed[0]}")
    for message in failed:
        warnings.warn(message, SaywhyWarning, stacklevel=3)
    return {index: tuple(some) for index, some in found.items()}


def _by_value(example: Example) -> float:
    return -example.value


def _box(values: Tensor, crop_box: Box, size: tuple[int, int]) -> Box:
    """Return the box around the largest value, clipped to the image."""
    rows, columns = values.shape
    row, column = divmod(int(values.argmax()), columns)
    left, top, right, bottom = crop_box
    x, y = left + (right - left) * (column + 0.5) / columns, top + (bottom - top) * (row + 0.5) / rows
    across, down = (right - left) * max(CROP, 1 / columns) / 2, (bottom - top) * max(CROP, 1 / rows) / 2
    width, height = size
    return max(0.0, x - across), max(0.0, y - down), min(float(width), x + across), min(float(height), y + down)
