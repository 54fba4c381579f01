"""``count``: count the objects in an image, and explain the count."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from saywhy.datasets.localized import ObjectAnnotation
from saywhy.engine import tree
from saywhy.engine.hooks import of_this_thread
from saywhy.errors import InputError
from saywhy.explain import explain
from saywhy.explainer.config import ExplainConfig, resolve_methods
from saywhy.explainer.prepare import prepare
from saywhy.explainer.runner import Runner
from saywhy.explanation import Explanation
from saywhy.images import Box
from saywhy.methods.method import Method
from saywhy.models import Model, load
from saywhy.models.inputs import Batch
from saywhy.output import ModelOutput
from saywhy.targets import Count, Target, TargetList, TopCounts
from saywhy.targets.count import is_list_of_boxes, thresholds_of
from saywhy.tasks.counting.counter import feature_layer
from saywhy.tasks.counting.detect import Detections, detections_of
from saywhy.tasks.counting.detect_counter import on_original
from saywhy.tasks.counting.found_objects import FoundObject, match_boxes, object_effects, seen_pixels
from saywhy.tasks.counting.grid import on_grid
from saywhy.tasks.counting.influence import counter_influences
from saywhy.tasks.counting.intervals import CountErrors, CountInterval
from saywhy.tasks.counting.nouns import noun_classes
from saywhy.tasks.counting.reading import CountReading, read_counts
from saywhy.validation import short_repr

MOST = 3
"""The default number of classes whose counts are explained."""


@dataclass(frozen=True)
class ObjectCount:
    """The count of one class, or of several together.

    Attributes:
        name: the class, or the noun that was asked for.
        labels: the classes that are counted.
        raw: the count before rounding.
        count: the whole number.
        interval: of the true count; None where the network has no errors of validation images, or for several classes.
    """

    name: str
    labels: tuple[str, ...]
    raw: float
    count: int
    interval: CountInterval | None = None


@dataclass(frozen=True)
class CountExplanation:
    """The counts of an image, and saliency maps of some of them.

    Attributes:
        counts: of every class of the model.
        explained: of the explained classes or nouns, in the order of the explanation's targets.
        explanation: of one sample; its scores are the counts before any clamping. Maps have both signs.
        cells: [class, row, column] the counts of the cells of a grid over what the network sees, before clamping: a
            counter's own cells, a density map's sums, or shares of a detector's boxes; None where the network returns
            only numbers.
        objects: the objects whose boxes were given, each missed, counted or counted twice; None where none were given.
        extra: a detector's boxes on none of these objects.
        influence: [explained, counted, cell] how the count of every cell depends on the features of every cell; see
            :func:`saywhy.tasks.counting.influence.influence_matrix`. None where it was not asked for.
    """

    counts: tuple[ObjectCount, ...]
    explained: tuple[ObjectCount, ...]
    explanation: Explanation
    cells: Float[Tensor, "class row column"] | None = None
    objects: tuple[FoundObject, ...] | None = None
    extra: tuple[Box, ...] = ()
    influence: Float[Tensor, "explained counted cell"] | None = None

    @property
    def total(self) -> int:
        """The number of all objects: the sum of the whole numbers of all classes."""
        return sum(one.count for one in self.counts)

    def __getitem__(self, name: str) -> ObjectCount:
        """Return the count of a class, or of an explained noun.

        Raises:
            InputError: there is none of this name; the message has the nearest.
        """
        found = next((one for one in (*self.explained, *self.counts) if one.name == name), None)
        if found is None:
            label = noun_classes(name, [one.name for one in self.counts]).labels
            return _together(name, [one for one in self.counts if one.name in label])
        return found

    def cells_of(self, one: ObjectCount) -> Float[Tensor, "row column"] | None:
        """Return the counts of the grid's cells of an entry of ``counts`` or ``explained``; None if there are none."""
        if self.cells is None:
            return None
        rows = [number for number, each in enumerate(self.counts) if each.name in one.labels]
        return self.cells[rows].sum(0)

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as plain data for JSON, without maps and pixels."""
        source = self.explanation.images[0]
        explained = [
            {**asdict(one), "cells": None if (cells := self.cells_of(one)) is None else cells.tolist()}
            for one in self.explained
        ]
        return {
            "image": source.name,
            "size": list(source.image.size),
            "crop_box": list(source.crop_box),
            "total": self.total,
            "counts": [asdict(one) for one in self.counts],
            "explained": explained,
            **({} if self.influence is None else {"influence": self.influence.tolist()}),
            **({} if self.objects is None else {"objects": self._objects(), "extra": [list(b) for b in self.extra]}),
        }

    def _objects(self) -> list[dict[str, Any]]:
        """Return the objects as plain data, with the names of their classes."""
        assert self.objects is not None
        return [{**asdict(one), "name": self.counts[one.label].name} for one in self.objects]

    def save(self, path: "str | Path") -> Path:
        """Write a page (``.html``), a drawing of grids and maps (``.png``, ``.jpg``), or maps and counts (``.npz``).

        Raises:
            InputError: the suffix is none of these.
            WriteError: the file cannot be written.
        """
        file = Path(path)
        suffix = file.suffix.lower()
        if suffix == ".html":
            resolve_name("saywhy.view.count:save_count")([self], file)
        elif suffix in (".png", ".jpg", ".jpeg"):
            resolve_name("saywhy.view.count:save_count_image")(self, file)
        elif suffix == ".npz":
            cells = None if self.cells is None else self.cells.tolist()
            counts, explained = ([asdict(one) for one in part] for part in (self.counts, self.explained))
            task = {"kind": "count", "counts": counts, "explained": explained, "cells": cells, **self._extras()}
            resolve_name("saywhy.io.npz:save_npz")(self.explanation, file, task)
        else:
            raise InputError(f"'{file}': expected the suffix .html, .png, .jpg or .npz, got '{file.suffix}'.")
        return file

    def _extras(self) -> dict[str, Any]:
        """Return what was asked for in addition, for the file."""
        return {
            "objects": None if self.objects is None else [asdict(one) for one in self.objects],
            "extra": [list(box) for box in self.extra],
            "influence": None if self.influence is None else self.influence.tolist(),
        }

    @staticmethod
    def load(path: "str | Path") -> "CountExplanation":
        """Read what ``save("….npz")`` wrote.

        Raises:
            InputError: the file is missing, or holds no counts.
        """
        explanation, task = resolve_name("saywhy.io.npz:load_with_task")(Path(path))
        if not isinstance(task, dict) or task.get("kind") != "count":
            raise InputError(f"'{path}' holds no counts. Read it with saywhy.Explanation.load.")
        counts, explained = (tuple(map(_count_of, task[part])) for part in ("counts", "explained"))
        cells, influence = (
            None if task.get(part) is None else torch.tensor(task[part]) for part in ("cells", "influence")
        )
        boxes = task.get("objects")
        objects = None if boxes is None else tuple(FoundObject(**{**one, "box": tuple(one["box"])}) for one in boxes)
        extra = tuple((b[0], b[1], b[2], b[3]) for b in task.get("extra", ()))
        return CountExplanation(counts, explained, explanation, cells, objects, extra, influence)


def count(
    model: str | Model,
    image: Any,
    of: "str | Sequence[str] | None" = None,
    method: str | Sequence[str] = "gradcam",
    *,
    threshold: float = 0.5,
    grid: int = 3,
    objects: Sequence[ObjectAnnotation] | None = None,
    influence: bool = False,
    **settings: Any,
) -> CountExplanation:
    """Count the objects of every class in an image, and explain the counts with both signs.

    The counts and the maps come from one pass of the network (methods of several passes run their own).

    An interval is made of the errors that the network made on validation images (``CountErrors``, measured by its
    recipe and stored in the metadata of its weights): the quantiles of the true count less the prediction, over pairs
    of an image and a class with a similar rounded prediction. It holds for images like those only. A network without
    such errors has no intervals (None), and neither have several classes together.

    Args:
        model: a counter (:mod:`saywhy.tasks.counting.counter`), or any model whose output
            :class:`saywhy.targets.Count` can read: a density map, or a detector's boxes with scores; or its name.
        image: one image, as for :func:`saywhy.explain`.
        of: a noun ("mugs", "people", "animals") or several: the counts to explain; a super-category is the sum of its
            classes. None explains the classes with the largest counts, at most 3, and at least one.
        method: one method name or several. Methods that keep positive evidence only by default keep both signs here
            (``relu=False``; RSI-Grad-CAM ``variant="plain"``): what raises the count and what lowers it.
        threshold: of a detector's boxes: the whole numbers count the boxes with at least this score. ``raw`` is their
            soft number, which the maps explain; see :class:`saywhy.targets.Count`.
        grid: the cells a side, where the network has no cells of its own.
        objects: the image's objects, where their boxes are known (``open_dataset("voc:mine")[0].objects``): which of
            them were missed, counted or counted twice. A detector's boxes are matched with them; of other networks the
            count is computed again without each object, a pass for each; one outside of what the network sees is
            missed. Objects of other classes are left out.
        influence: compute the influence matrix of each explained count too, by one more pass of the backbone.
        settings: as for :func:`saywhy.explain`.

    Raises:
        TargetError: nothing in the model's output is a count; the message says what would be.
        InputError: no class is named by a noun, there are several images, or the network has no features of cells for
            an influence matrix.

    >>> from torch import nn
    >>> from saywhy.tasks.counting.counter import Counter, counter_model
    >>> from saywhy.tasks.counting.features import PooledCells
    >>> from saywhy.tasks.counting.networks import AssociativeSubitizing
    >>> _ = torch.manual_seed(0)
    >>> network = Counter(PooledCells(nn.Conv2d(3, 6, 3, padding=1), 2), AssociativeSubitizing(6, 3, 2)).eval()
    >>> counter = counter_model(network, ["cat", "dog", "mug"], layer="features.features")
    >>> found = count(counter, torch.rand(1, 3, 8, 8), of="animals")
    >>> found.explained[0].labels, found.cells.shape, found.explanation.maps.shape
    (('cat', 'dog'), torch.Size([3, 2, 2]), torch.Size([1, 1, 8, 8]))
    """
    model = model if isinstance(model, Model) else load(model)
    largest = TopCounts(MOST, threshold)
    target: Target = largest
    parts: list[tuple[str, tuple[str, ...]]] = []
    if of is not None:
        parts = [_noun(model, noun) for noun in ([of] if isinstance(of, str) else of)]
        if not parts:
            raise InputError("of is an empty list of nouns. Give at least one, or None for the largest counts.")
        target = TargetList(tuple(_sum([Count(label, threshold=threshold) for label in labels]) for _, labels in parts))
    chosen, _ = resolve_methods(method, {})
    settings = {**_both_signs(chosen), **_own_layer(model, chosen, settings), **settings}
    config = ExplainConfig(target, output=settings.get("output"))
    runner, batch = prepare(model, image, config, settings.get("axes"))
    if batch.size != 1:
        raise InputError(
            f"expected one image, got {batch.size}. Count them one by one, or all without maps: "
            "saywhy.tasks.counting.count_images."
        )
    with _first_output(runner.model, batch) as seen:
        found = explain(runner.model, batch, target, method, **settings)
    output = _output_of(runner, batch, seen)
    read = read_counts(output, threshold, grid, batch.space)
    counts = counts_of(runner.model, read)[0]
    if of is None:
        explained = tuple(counts[number] for number in largest.classes(output))
    else:
        by_name = {one.name: one for one in counts}
        explained = tuple(_together(noun, [by_name[label] for label in labels]) for noun, labels in parts)
    explanation = replace(found, targets=[[one.name for one in explained]])
    cells = None if read.cells is None else on_grid(read.cells[0])
    states, extra = (None, ()) if objects is None else _states(runner, batch, image, output.raw, objects, threshold)
    matrices = None
    if influence:
        index = {one.name: number for number, one in enumerate(counts)}
        matrices = counter_influences(runner.model, batch, [[index[n] for n in one.labels] for one in explained])
    return CountExplanation(counts, explained, explanation, cells, states, extra, matrices)


def _states(
    runner: Runner, batch: Batch, image: Any, raw: Any, objects: Sequence[ObjectAnnotation], threshold: float
) -> tuple[tuple[FoundObject, ...], tuple[Box, ...]]:
    """Return the state of each object of the model's classes, and a detector's boxes on none."""
    names = list(runner.model.labels or ())
    known = [one for one in objects if one.label in names]
    boxes, labels = [one.box for one in known], [names.index(one.label) for one in known]
    if not is_list_of_boxes(raw, batch.size) or not isinstance(raw[0].get("boxes"), Tensor):
        crop_box = batch.images()[0].crop_box
        seen = [number for number, box in enumerate(boxes) if bool(seen_pixels(box, crop_box, batch.space).any())]
        effects = object_effects(
            runner.model, image, [boxes[n] for n in seen], [labels[n] for n in seen], threshold=threshold
        )
        by_number = dict(zip(seen, effects, strict=True))
        unseen = [FoundObject(label, box, "missed", 0.0) for box, label in zip(boxes, labels, strict=True)]
        return tuple(by_number.get(number, one) for number, one in enumerate(unseen)), ()
    (found,) = detections_of([{**raw[0], "labels": raw[0]["labels"].long()}])
    kept = found.scores >= thresholds_of(raw[0], threshold).detach().cpu()
    placed = on_original(found.boxes[kept], batch.images()[0].crop_box, batch.space)
    matched = match_boxes(Detections(placed, found.scores[kept], found.labels[kept]), boxes, labels)
    extra = tuple((b[0], b[1], b[2], b[3]) for b in placed[list(matched.extra)].tolist())
    return matched.objects, extra


def counts_of(model: Model, read: CountReading) -> list[tuple[ObjectCount, ...]]:
    """Return the counts of every class for each image of a batch, with intervals where the network has errors."""
    errors = getattr(model.module, "errors", None)
    known = errors if isinstance(errors, CountErrors) else None
    found = []
    for raw, whole in zip(read.raw.tolist(), read.counts.tolist(), strict=True):
        rows = zip(read.labels, raw, map(int, whole), strict=True)
        found.append(tuple(ObjectCount(n, (n,), r, c, known.interval(c) if known else None) for n, r, c in rows))
    return found


def _both_signs(methods: Sequence[Method]) -> dict[str, Any]:
    """Return the parameters with which methods keep negative evidence too."""
    parameters: dict[str, Any] = {"relu": False} if any("relu" in one.parameters for one in methods) else {}
    if any(one.parameters.get("variant") == "masked" for one in methods):  # RSI-Grad-CAM: increasing, positive units
        parameters["variant"] = "plain"
    return parameters


def _own_layer(model: Model, methods: Sequence[Method], settings: dict[str, Any]) -> dict[str, Any]:
    """Return the layer from which a counter pools its cells, for maps of its one pass; nothing where one is given."""
    given = any(settings.get(name) is not None for name in ("layer", "layout"))
    if given or not all(method.at == "layer" and method.passes == "one" for method in methods):
        return {}
    own = feature_layer(model.module)
    return {"layer": own} if own is not None and model.layer in (None, own.name) else {}


def _noun(model: Model, noun: Any) -> tuple[str, tuple[str, ...]]:
    if not isinstance(noun, str):
        raise InputError(f"of must be a noun or a list of nouns, got {short_repr(noun)}.")
    if not model.labels:
        raise InputError(
            f"{model.name} has no names of classes, so that no noun names one. Leave `of` out, or give the names: "
            "saywhy.load(network, labels=[…])."
        )
    return noun, noun_classes(noun, model.labels).labels


def _sum(parts: Sequence[Target]) -> Target:
    first, *others = parts
    for other in others:
        first = first + other
    return first


def _together(noun: str, parts: Sequence[ObjectCount]) -> ObjectCount:
    """Return the count of several classes together: the sum of whole numbers, and of those before rounding."""
    if len(parts) == 1:
        return replace(parts[0], name=noun)
    labels = tuple(label for one in parts for label in one.labels)
    return ObjectCount(noun, labels, sum(one.raw for one in parts), sum(one.count for one in parts))


@contextmanager
def _first_output(model: Model, batch: Batch) -> Iterator[list[Any]]:
    """Yield a list that gets the output of the network's first run on exactly these inputs.

    The first run on unaltered inputs is unaltered inside too: to alter a layer its output has to be known.
    """
    seen: list[Any] = []
    own = tree.image_tensor(batch.inputs)

    def keep(_module: Any, arguments: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        if not seen and any(
            given.shape == own.shape and torch.equal(given.detach(), own)
            for given in tree.tensors([*arguments, *named.values()])
        ):
            seen.append(tree.map_tensors(output, Tensor.detach))

    hook = model.module.register_forward_hook(of_this_thread(keep), with_kwargs=True)
    try:
        yield seen
    finally:
        hook.remove()


def _output_of(runner: Runner, batch: Batch, seen: Sequence[Any]) -> ModelOutput:
    """Return the output of the first run; runs the network where it ran as a copy only (precision="fast")."""
    return runner.model_output(batch.size, seen[0]) if seen else runner.predict(batch)


def _count_of(record: dict[str, Any]) -> ObjectCount:
    interval = None if record["interval"] is None else CountInterval(**record["interval"])
    return ObjectCount(record["name"], tuple(record["labels"]), record["raw"], record["count"], interval)
