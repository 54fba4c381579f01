"""An explanation in words: the channels that speak for and against an answer, by name or by what excites them."""

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from saywhy.engine.layout import Layout
from saywhy.engine.trace import Candidate
from saywhy.errors import ImageError, InputError, SaywhyWarning
from saywhy.explainer.config import ExplainConfig
from saywhy.explainer.prepare import prepare
from saywhy.explainer.runner import Runner
from saywhy.images import Box, images_in, read_image
from saywhy.models import Model
from saywhy.models.inputs import as_batch
from saywhy.output import ScoreKind
from saywhy.progress import counted
from saywhy.shapes import at_least_float32
from saywhy.targets import as_target
from saywhy.validation import real_number, whole_number

LEAST_IOU = 0.05
"""How well a neuron must match a concept for its name to be used (Grad-CAM paper, section 7)."""

CROP = 0.25
"""Side of the crop round a peak, as a share of what the network saw; a cell of the map where that is more."""


@dataclass(frozen=True)
class Example:
    """An image that excites a channel.

    Attributes:
        path: the file.
        value: the channel's largest activation in it.
        box: left, top, right, bottom round the place of that, in pixels of the image.
    """

    path: Path
    value: float
    box: Box

    def crop(self) -> Any:
        """What excites the channel there: a ``PIL.Image``."""
        left, top, right, bottom = self.box
        return read_image(self.path).crop((round(left), round(top), round(right), round(bottom)))


@dataclass(frozen=True)
class Channel:
    """A channel of the layer and what it is known by.

    Attributes:
        index: its number, from 0.
        weight: its importance alpha (Grad-CAM, equation 1), the mean gradient of the score.
        name: of the concept that it stands for, if that is known.
        examples: the images that excite it most, the most exciting first.
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
    """Why one image got one answer.

    Attributes:
        image: its name.
        target: the answer.
        score: of the answer.
        layer: its name.
        present: the channels of highest importance, the highest first: what raises the score by being there.
        absent: those of lowest importance, the lowest first: what would raise it by not being there.
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
            f"{self.image}: {self.target} ({self.score:.4g}), by what {self.layer} holds\n"
            f"  for it speaks the presence of:{first}{apart.join(map(str, self.present))}\n"
            f"  and would speak the absence of:{first}{apart.join(map(str, self.absent))}"
        )


@dataclass(frozen=True, eq=False)
class TextualExplanation:
    """Explanations in words for all samples and targets; ``print`` it.

    Attributes:
        words: [batch][target].
        weights: [batch, target, channel] the importance of every channel.
    """

    words: tuple[tuple[ChannelExplanation, ...], ...]
    weights: Tensor

    def __str__(self) -> str:
        return "\n\n".join(str(one) for row in self.words for one in row)


def textual(
    model: "str | nn.Module | Model",
    inputs: Any,
    target: Any = None,
    layer: str | nn.Module | None = None,
    *,
    count: int = 5,
    concepts: "Mapping[int, Any] | str | os.PathLike[str] | None" = None,
    folder: "str | os.PathLike[str] | None" = None,
    examples: int = 3,
    least_iou: float | int = LEAST_IOU,
    score: ScoreKind | None = None,
    layout: Layout | None = None,
    output: str | int | None = None,
) -> TextualExplanation:
    r"""Textual explanations (Grad-CAM paper, section 7): names of the channels that matter most for an answer.

    Channels are sorted by their importance :math:`\alpha_k = \frac{1}{Z} \sum_p \partial y / \partial A^k_p`.

    Args:
        model: as for :func:`saywhy.explain`.
        inputs: as for :func:`saywhy.explain`.
        target: as for :func:`saywhy.explain`.
        layer: a name or a module; None finds it. The names must be those of this layer's channels.
        count: how many channels speak for, and how many against.
        concepts: names of channels (from Network Dissection, for one): a mapping from their numbers, or a JSON file of
            such an object. Each is a name, or ``{"name": "fur", "iou": 0.12}``.
        folder: of images: channels are also known by those that excite them most.
        examples: how many of these.
        least_iou: names of a lower ``iou`` are not used; 0.05 in the paper.
        score: what a class's score is; None is the logit.
        layout: how to read the layer, where it cannot be proved and you know better.
        output: where the class scores are in what the model returns.

    Returns:
        :class:`TextualExplanation`. Channels without a name stay in their place, as ``channel 7``: what cannot be named
        is part of the reason too (the paper leaves it out, and its "elevator door" without doors is the result).

    Raises:
        InputError: a parameter is out of range, or the file of names is none.
        ImageError: the folder holds no image that can be read.

    >>> import torch
    >>> network = nn.Sequential(nn.Identity(), nn.Flatten(), nn.Linear(6, 1, bias=False))
    >>> network[2].weight.data = torch.tensor([[2.0, 2.0, 2.0, -1.0, -1.0, -1.0]])
    >>> layout, image = Layout("channels-first", (1, 3)), torch.ones(1, 2, 1, 3)
    >>> names = {0: "stripes", 1: {"name": "sky", "iou": 0.01}}
    >>> print(textual(network, image, 0, "0", layout=layout, count=1, concepts=names))
    input: class 0 (3), by what 0 holds
      for it speaks the presence of: stripes (+2)
      and would speak the absence of: channel 1 (-1)
    """
    count, examples = whole_number("count", count, 1), whole_number("examples", examples, 1)
    least_iou = real_number("least_iou", least_iou, 0, 1)
    named = names_of(concepts, least_iou) if concepts is not None else {}
    if folder is not None and not Path(folder).is_dir():
        raise InputError(f"folder must be a folder of images, and '{os.fspath(folder)}' is none.")
    files = list(images_in([folder])) if folder is not None else []
    config = ExplainConfig(as_target(target), layer=layer, layout=layout, score=score, output=output)
    runner, batch = prepare(model, inputs, config)
    captured, target_scores, (candidate,) = runner.capture(batch)
    (G,) = captured.gradients().values()
    weights = at_least_float32(G).flatten(3).mean(3).detach().cpu()  # (batch, target, channel)
    beyond = [index for index in named if index >= weights.shape[2]]
    if beyond:
        raise InputError(
            f"there is a name for channel {beyond[0]}, and layer '{candidate.name}' has {weights.shape[2]} channels, "
            "counted from 0. The names are those of another layer."
        )
    ranked = [[_ends(row, count) for row in sample] for sample in weights]
    wanted = sorted({index for sample in ranked for ends in sample for some in ends for index in some})
    seen = maximally_activating(runner, candidate, files, wanted, examples) if files else {}
    images = batch.images()

    def described(indices: Sequence[int], own: Tensor) -> tuple[Channel, ...]:
        return tuple(Channel(i, float(own[i]), named.get(i), seen.get(i, ())) for i in indices)

    words = [
        [
            ChannelExplanation(
                image=images[b].name,
                target=target_scores.names[b][t],
                score=float(target_scores.scores[b, t]),
                layer=candidate.name,
                present=described(first, weights[b, t]),
                absent=described(last, weights[b, t]),
            )
            for t, (first, last) in enumerate(sample)
        ]
        for b, sample in enumerate(ranked)
    ]
    return TextualExplanation(tuple(map(tuple, words)), weights)


def _ends(weights: Tensor, count: int) -> tuple[list[int], list[int]]:
    """The channels of highest weight and those of lowest; none is both."""
    order = weights.argsort(descending=True, stable=True).tolist()
    first = order[:count]
    return first, order[len(first) :][::-1][:count]


def names_of(
    concepts: "Mapping[int, Any] | str | os.PathLike[str]", least_iou: float | int = LEAST_IOU
) -> dict[int, str]:
    """Names by channel, without those that match too little.

    Args:
        concepts: a mapping or a JSON file; see :func:`textual`.
        least_iou: the least intersection over union; names without one are kept.

    Raises:
        InputError: the file cannot be read, or an entry is no channel with a name.

    >>> names_of({"3": "fur", 4: {"name": "sky", "iou": 0.04}})
    {3: 'fur'}
    """
    entries = concepts if isinstance(concepts, Mapping) else _read(Path(concepts))
    found = {}
    for key, entry in entries.items():
        index = int(key) if isinstance(key, int) or (isinstance(key, str) and key.isdecimal()) else -1
        if index < 0 or isinstance(key, bool):
            raise InputError(f"a concept belongs to a channel, a number from 0, got {key!r}.")
        name, iou = (entry.get("name"), entry.get("iou")) if isinstance(entry, Mapping) else (entry, None)
        if not isinstance(name, str) or not name.strip():
            raise InputError(f'channel {index} needs a name, "fur" or {{"name": "fur", "iou": 0.12}}, got {entry!r}.')
        if iou is None or real_number(f"the iou of channel {index}", iou, 0, 1) >= least_iou:
            found[index] = name.strip()
    return found


def _read(path: Path) -> Mapping[str, Any]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
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
    """The images that excite each channel most, by its largest activation; those it does not answer to are left out.

    Raises:
        ImageError: none of the files can be read.
    """
    runner = runner.with_config(target=as_target(None), layer=candidate.name)
    found: dict[int, list[Example]] = {index: [] for index in channels}
    failed: list[str] = []
    with counted("looking at images", len(files)) as advance:
        for file in files:
            advance(1)
            try:
                batch = as_batch(runner.model, file)
            except ImageError as error:  # one damaged image does not stop the others
                failed.append(str(error))
                continue
            captured, _, _ = runner.capture(batch)
            (A,) = captured.activations.values()
            (source,) = batch.images()
            for index in channels:
                value = float(A[0, index].max())
                if value > 0:
                    place = _box(A[0, index], source.crop_box, source.image.size)
                    found[index] = sorted([*found[index], Example(file, value, place)], key=_by_value)[:count]
    if len(failed) == len(files):
        raise ImageError(f"no image of the folder can be read. The first: {failed[0]}")
    for message in failed:
        warnings.warn(message, SaywhyWarning, stacklevel=3)
    return {index: tuple(some) for index, some in found.items()}


def _by_value(example: Example) -> float:
    return -example.value


def _box(values: Tensor, crop_box: Box, size: tuple[int, int]) -> Box:
    """Round the largest value, as far as the image goes."""
    rows, target_scores = values.shape
    row, column = divmod(int(values.argmax()), target_scores)
    left, top, right, bottom = crop_box
    x, y = left + (right - left) * (column + 0.5) / target_scores, top + (bottom - top) * (row + 0.5) / rows
    across, down = (right - left) * max(CROP, 1 / target_scores) / 2, (bottom - top) * max(CROP, 1 / rows) / 2
    width, height = size
    return max(0.0, x - across), max(0.0, y - down), min(float(width), x + across), min(float(height), y + down)
