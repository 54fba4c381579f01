"""Methods beside one another on a data set: every metric with its interval, and beside maps that know nothing."""

import json
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from PIL import Image
from torch import Tensor

from saywhy.datasets.localized import Dataset, LocalizedImage, ObjectAnnotation
from saywhy.errors import ImageError, InputError, SaywhyWarning, nearest
from saywhy.explain import explain
from saywhy.methods.registry import find_method
from saywhy.metrics.class_agnostic import CLASS_AGNOSTIC_BASELINES, sample_seed
from saywhy.metrics.measure import EvaluationContext, of_hits
from saywhy.metrics.metric import Metric
from saywhy.metrics.registry import METRICS as KNOWN
from saywhy.metrics.registry import find_metric
from saywhy.models import Model
from saywhy.progress import counted

METHODS = ("gradcam", "hirescam", "layercam", "gradcam++", "saliency")
METRICS = ("pointing-game", "energy-pointing", "box-iou", "faithfulness-correlation", "deletion", "insertion")

LEVEL, DRAWS = 0.95, 2000
"""Of the intervals, by the bootstrap over images."""

AT_ONCE = 2_000_000
"""So many images are drawn at once for an interval, so that memory does not grow with the data set."""

ROWS = "rows.jsonl"
"""What was measured, a line for what was asked and then one for every image; of two of an image the last counts."""

FORM = 2
"""Of these lines and what is in them; a run goes on only with the same. In 1 all images had the same noise."""


@dataclass(frozen=True)
class BenchmarkConfig:
    """What is measured; a run goes on only with the same.

    Attributes:
        model, weights: its name, and the digest of its weights.
        data, size: the name of the data set, and how many images it has.
        count: of how many it is measured, spread evenly over the data set.
        methods, metrics: names.
        layer: None is found.
        seed: of all that is random: of the maps as it is, of what judges an image (its noise, its hidden parts) with
            the image's place in the data set (:func:`saywhy.metrics.class_agnostic.sample_seed`).
    """

    model: str
    weights: str
    data: str
    size: int
    count: int
    methods: tuple[str, ...]
    metrics: tuple[str, ...]
    layer: str | None
    seed: int


@dataclass(frozen=True)
class Cell:
    """One metric of one method (or null) over all that was measured.

    Attributes:
        mean: over all maps; NaN where there is none.
        low, high: the 95 % interval, by the bootstrap over images, or Wilson's where every image is a hit or a miss
            (:func:`saywhy.metrics.measure.of_hits`); NaN for a single image. Where all other values are equal it has
            no width, which is what they show and no proof of more.
        maps, images: how many.
    """

    mean: float
    low: float
    high: float
    maps: int
    images: int


@dataclass
class Benchmark:
    """What was measured.

    Attributes:
        settings: what was asked.
        images: of every image that was measured, by its place in the data set, the rows of its maps.
        skipped: of every image that was not, why.
    """

    settings: BenchmarkConfig
    images: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    skipped: dict[int, str] = field(default_factory=dict)

    @property
    def who(self) -> tuple[str, ...]:
        """The methods, then the maps that know nothing."""
        return (*self.settings.methods, *CLASS_AGNOSTIC_BASELINES)

    def cell(self, who: str, metric: str) -> Cell:
        """One number of the table."""
        sums = []
        for rows in self.images.values():
            values = [row["values"].get(metric) for row in rows if row["who"] == who]
            known = [value for value in values if value is not None]
            if known:
                sums.append((math.fsum(known), len(known)))
        if not sums:
            return Cell(math.nan, math.nan, math.nan, 0, 0)
        total = np.array(sums)
        mean = float(total[:, 0].sum() / total[:, 1].sum())
        low = high = math.nan
        if len(total) > 1:
            hits = of_hits(KNOWN.get(metric), total[:, 0] / total[:, 1], total[:, 1], LEVEL)
            low, high = hits or (float(q) for q in np.quantile(_drawn_means(total), [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
        return Cell(mean, low, high, int(total[:, 1].sum()), len(total))

    def table(self) -> dict[str, dict[str, Cell]]:
        """By method (or null) and metric."""
        return {who: {metric: self.cell(who, metric) for metric in self.settings.metrics} for who in self.who}

    def record(self) -> dict[str, Any]:
        """For programs; NaN is null."""
        cells = {
            who: {metric: {k: _known(v) for k, v in asdict(cell).items()} for metric, cell in row.items()}
            for who, row in self.table().items()
        }
        return {"settings": asdict(self.settings), "table": cells, "skipped": self.skipped}

    def save(self, path: "str | Path") -> Path:
        """Write the table; the suffix says how: ``.html`` with plots, or ``.json``.

        Raises:
            InputError: the suffix is neither, or the file cannot be written.
        """
        from saywhy.io.atomic import atomic_write
        from saywhy.view.benchmark import benchmark_html

        file = Path(path)
        suffix = file.suffix.lower()
        if suffix not in (".html", ".json"):
            raise InputError(f"'{file}': the suffix must be .html or .json, got '{file.suffix}'.")
        text = benchmark_html(self) if suffix == ".html" else json.dumps(self.record(), indent=1, ensure_ascii=False)
        try:
            with atomic_write(file) as temporary:
                temporary.write_text(text, encoding="utf-8")
        except OSError as error:
            raise InputError(f"'{file}' cannot be written: {error}") from error
        return file


def benchmark(
    model: Model,
    data: Dataset,
    methods: Sequence[str] = METHODS,
    metrics: Sequence[str] = METRICS,
    *,
    count: int | None = None,
    layer: str | None = None,
    folder: "str | Path | None" = None,
    seed: int = 0,
) -> Benchmark:
    """Measure methods on a data set, for every class that is annotated in an image and that the model knows.

    Things that are marked as difficult do not count, unless an image has no others of their class. Where a class is
    named without a place, metrics of places have no value; nor has a metric of methods that cannot be said of one (only
    path methods claim completeness).

    Args:
        model: what :func:`saywhy.load` gave.
        data: see :func:`saywhy.datasets.load.open_dataset`.
        methods, metrics: names; each counts once.
        count: so many images, spread evenly over the data set; None are all.
        layer: None is found.
        folder: where what was measured is kept, image by image (``rows.jsonl``); the same call goes on there, and
            tries again what was left out. None keeps nothing.
        seed: of all that is random.

    Raises:
        InputError: a metric has another name, the model knows no class of the data set or takes no images alone, the
            folder holds another run, or nothing could be measured.
        MethodError: a method has another name.
    """
    methods, metrics = tuple(dict.fromkeys(methods)), tuple(dict.fromkeys(metrics))
    chosen = [find_metric(name) for name in metrics]
    for name in methods:
        find_method(name)
    _check(model, data, methods, chosen)
    if not len(data):
        raise InputError(f"{data.name} has no images.")
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
        raise InputError(f"count must be a whole number of at least 1, got {count!r}.")
    places = _spread(len(data), count)
    settings = BenchmarkConfig(
        model.name, model.digest(), data.name, len(data), len(places), methods, metrics, layer, seed
    )
    done = Benchmark(settings)
    keep = _kept(done, Path(folder)) if folder is not None else lambda place: None
    classes = classes_of(model, data)
    with counted("measuring", len(places)) as advance:
        for place in places:
            if place not in done.images:
                try:
                    rows = list(_rows(model, data[place], classes, settings, chosen, sample_seed(seed, place)))
                    if rows:
                        done.images[place] = rows
                    else:
                        done.skipped[place] = "no class that is annotated in it is one of the model's"
                except (ImageError, InputError) as error:  # one damaged image does not stop the others
                    done.skipped[place] = str(error)
                keep(place)
            advance(1)
    done.images = dict(sorted(done.images.items()))  # the interval must not know what was tried again
    if not done.images:
        why = next(iter(done.skipped.values())).rstrip(".")
        raise InputError(f"nothing could be measured of {len(places)} images. The first: {why}.")
    return done


def _check(model: Model, data: Dataset, methods: Sequence[str], metrics: Sequence[Metric]) -> None:
    """What would go wrong with every image is said before the first."""
    if not methods or not metrics:
        raise InputError(
            f"a bench needs a method and a metric at least, got {len(methods)} methods and {len(metrics)} metrics. "
            "`saywhy methods` and `saywhy metrics` list them."
        )
    if model.texts:
        raise InputError(
            f"{model.name} takes words ({', '.join(model.texts)}) beside an image, and {data.name} has none. Take a "
            "model of images alone."
        )
    if model.preprocess is None:
        raise InputError(
            f"{model.name} is a bare network: how images are to be fed to it is not known. Load it with input_size= "
            "or preprocess=."
        )
    if needy := [metric.name for metric in metrics if "other" in metric.parameters]:
        raise InputError(
            f"{needy[0]} compares with another network, which a bench does not have: use saywhy.metrics.measure."
        )


def _spread(size: int, count: int | None) -> list[int]:
    """So many places, evenly from the first to the last.

    >>> _spread(10, 3), _spread(2, 5)
    ([0, 3, 6], [0, 1])
    """
    count = min(count or size, size)
    return [i * size // count for i in range(count)]


def classes_of(model: Model, data: Dataset) -> Callable[[str], int | None]:
    """From a label of the data set to the model's class.

    Where both number the same classes alike (ImageNet's, of which two are called "crane"), by number; else by name.
    """
    own, theirs = model.labels or (), data.labels
    same = sum(a.casefold() == b.casefold() for a, b in zip(own, theirs, strict=False))
    if own and len(own) == len(theirs) and same > len(own) / 2:
        numbers = {label: i for i, label in enumerate(theirs)}
    else:
        numbers = {label.casefold(): i for i, label in reversed(list(enumerate(own)))}
        if not any(label.casefold() in numbers for label in theirs):
            likely = nearest(theirs[0], list(own)) if theirs else []
            raise InputError(
                f"{model.name} knows none of the {len(theirs)} classes of {data.name} ({', '.join(theirs[:5])}, …); it "
                f"knows {', '.join(own[:5]) or 'no names'}, …{f' Nearest: {likely[0]}.' if likely else ''}"
            )
        return lambda label: numbers.get(label.casefold())
    return numbers.get


def _rows(
    model: Model,
    located: LocalizedImage,
    classes: Callable[[str], int | None],
    settings: BenchmarkConfig,
    metrics: Sequence[Metric],
    seed: int,
) -> Iterator[dict[str, Any]]:
    """What every metric says of every map of an image; seed: of what judges them."""
    labels = [label for label in located.labels if classes(label) is not None]
    if not labels:
        return
    image = located.open()
    objects = [plainly_there([t for t in located.objects if t.label == label]) for label in labels]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SaywhyWarning)  # an empty map is measured like any other
        explanation = explain(
            model,
            image,
            [classes(label) for label in labels],
            list(settings.methods),
            settings.layer,
            seed=settings.seed,
        )
    everywhere = ObjectAnnotation("", (0.0, 0.0, float(image.width), float(image.height)))
    known = [some or [everywhere] for some in objects]  # what is measured there is left out again
    masks, boxes = [[mask_of(some, image) for some in known]], [[[t.box for t in some] for some in known]]
    first = settings.methods[0]
    of_first = EvaluationContext(explanation, first, explanation._first_layer(first), masks, boxes, seed=seed)
    for method in settings.methods:
        judge = of_first.at(method, explanation._first_layer(method))
        shown = {method: judge.maps}
        if method == first:  # maps of chance are of the first method's grid
            shown |= {name: judge.baseline(name) for name in CLASS_AGNOSTIC_BASELINES}
        for who, maps in shown.items():
            found = {m.name: _values(judge, m, maps, who, objects) for m in metrics}
            for t, label in enumerate(labels):
                yield {
                    "image": located.name,
                    "label": label,
                    "who": who,
                    "values": {name: values[t] for name, values in found.items()},
                }


def _values(
    judge: EvaluationContext, metric: Metric, maps: Tensor, who: str, objects: list[list[ObjectAnnotation]]
) -> list[float | None]:
    """Of every target; None where it cannot be said."""
    if metric.needs == "method" and who in CLASS_AGNOSTIC_BASELINES:
        return [None] * len(objects)
    try:
        found = [_known(value) for value in judge.value(metric, maps)[0].tolist()]
    except InputError:
        if metric.needs != "method":
            raise
        return [None] * len(objects)  # of this method, or of these targets, it cannot be said
    located = metric.needs in ("masks", "boxes")
    return [value if some or not located else None for value, some in zip(found, objects, strict=True)]


def plainly_there(objects: list[ObjectAnnotation]) -> list[ObjectAnnotation]:
    """Without the difficult ones, unless there are no others."""
    return [thing for thing in objects if not thing.difficult] or objects


def mask_of(objects: Sequence[ObjectAnnotation], image: Image.Image) -> Bool[Tensor, "height width"]:
    """Where the things are: their pixels, or their boxes where only those are known."""
    there = np.zeros((image.height, image.width), bool)
    for thing in objects:
        if thing.mask is not None:
            there |= thing.mask()
        else:
            left, top, right, bottom = thing.box
            there[math.floor(top) : math.ceil(bottom), math.floor(left) : math.ceil(right)] = True
    return torch.from_numpy(there)


def _drawn_means(sums: np.ndarray) -> np.ndarray:
    """Means over images drawn again, from the sum and the number of the values of each, [image, 2]."""
    generator, count = np.random.default_rng(0), len(sums)
    most = max(1, AT_ONCE // count)
    parts = [
        sums[generator.integers(count, size=(min(most, DRAWS - start), count))].sum(1)
        for start in range(0, DRAWS, most)
    ]
    drawn = np.concatenate(parts)
    return drawn[:, 0] / drawn[:, 1]


def _kept(done: Benchmark, folder: Path) -> Callable[[int], None]:
    """Read what was measured before; returns what writes an image down."""
    file = folder / ROWS
    now = json.loads(json.dumps({"form": FORM, **asdict(done.settings)}))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lines = file.read_bytes().split(b"\n") if file.exists() else [b""]
        if lines[-1]:  # it was not finished when the run was stopped: it goes, and is measured again
            os.truncate(file, file.stat().st_size - len(lines[-1]))
        if len(lines) == 1:
            file.write_text(json.dumps(now) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"what is measured cannot be kept in '{folder}': {error}") from error
    size = done.settings.size
    before = _read_back(
        done, now, [_parsed(file, number, line, size) for number, line in enumerate(lines[:-1], 1)], folder
    )

    def keep(place: int) -> None:
        if place in done.skipped:
            if before.get(place) == done.skipped[place]:
                return  # it stands there
            row: Mapping[str, Any] = {"place": place, "skipped": done.skipped[place]}
        else:
            row = {"place": place, "rows": done.images[place]}
        with file.open("a", encoding="utf-8") as out:
            out.write(json.dumps(row) + "\n")

    return keep


def _parsed(file: Path, number: int, line: bytes, size: int) -> dict[str, Any]:
    """One line of what was measured before, of a data set of this size."""
    try:
        found = json.loads(line)
    except ValueError as error:
        raise _damaged(file, number) from error
    if not isinstance(found, dict) or (number > 1 and not _is_kept(found, size)):
        raise _damaged(file, number)
    return found


def _is_kept(line: Mapping[str, Any], size: int) -> bool:
    """Whether it says of an image why it was left out, or what was measured."""
    place, rows = line.get("place"), line.get("rows")
    if isinstance(place, bool) or not isinstance(place, int) or not 0 <= place < size:
        return False
    if "skipped" in line:
        return isinstance(line["skipped"], str)
    return isinstance(rows, list) and bool(rows) and all(_is_row(row) for row in rows)


def _is_row(row: Any) -> bool:
    """Whether it is what metrics said of a map."""
    if not isinstance(row, dict) or not isinstance(row.get("who"), str) or not isinstance(row.get("values"), dict):
        return False
    numbers = [value for value in row["values"].values() if value is not None]
    return all(isinstance(value, int | float) and math.isfinite(value) for value in numbers)


def _damaged(file: Path, number: int) -> InputError:
    return InputError(f"'{file}', line {number}, is damaged. Take the line out, or remove the file to begin anew.")


def _read_back(
    done: Benchmark, now: Mapping[str, Any], lines: Sequence[Mapping[str, Any]], folder: Path
) -> dict[int, str]:
    """Take over what was measured before, if the same was asked; returns why others were left out."""
    before = lines[0] if lines else now
    if before.get("form") != now["form"]:
        raise InputError(
            f"'{folder}' holds a run by another version of saywhy. Give another folder, or remove this one."
        )
    if other := [key for key in now if before.get(key) != now[key]]:
        raise InputError(
            f"'{folder}' holds another run: its {other[0]} is {before.get(other[0])}, and now {now[other[0]]}. "
            "Give another folder, or remove this one."
        )
    skipped = {}
    for row in lines[1:]:
        if "skipped" in row:
            skipped[row["place"]] = row["skipped"]
        else:
            done.images[row["place"]] = row["rows"]
    return skipped


def _known(value: Any) -> Any:
    return value if not isinstance(value, float) or math.isfinite(value) else None
