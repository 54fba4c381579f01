"""Counters in files: weights with a description, from which the network is built again.

``saywhy train counter`` writes them, and ``saywhy.load("counter:mine.safetensors")`` reads them. The file holds the
weights of the backbone too; its architecture is that of a named model (``torchvision:…``, ``timm:…``, ``toybox:…``,
``file.py:function``), which is built without its own weights.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from saywhy.engine.layout import Layout
from saywhy.errors import InputError, ModelError, SaywhyError, WeightsError
from saywhy.io.limits import parse_json
from saywhy.models import Model, Preprocess, load
from saywhy.models.registry import source
from saywhy.models.weights import load_weights
from saywhy.tasks.counting.counter import Counter, counter_model
from saywhy.tasks.counting.features import LayerFeatures, PooledCells, number_of_features
from saywhy.tasks.counting.grid import MOST_CELLS
from saywhy.tasks.counting.intervals import CountErrors
from saywhy.tasks.counting.networks import AssociativeSubitizing, CountHead, Glance, SequentialSubitizing
from saywhy.validation import short_repr, validate, whole_number

CountHeadKind = Literal["glance", "associative", "sequential"]
"""The networks that count; glancing takes a grid of 1."""

ENTRY = "counter"
"""The entry of the metadata that holds the description."""

LAYOUTS = ("channels-first", "channels-last", "tokens", "tokens-last")
"""The layouts of a layer that a description may have."""

FIRST_WEIGHTS = ("head.net.0.weight", "head.readers.0.projection.weight")
"""The first weights of the networks that count, [hidden, feature]."""


@dataclass(frozen=True)
class CounterDescription:
    """What a counter is built from, without its weights.

    Attributes:
        backbone: the name of the model whose layer gives the features.
        layer: the layer.
        kind: of the network that counts.
        grid: the cells a side.
        hidden: the width of its hidden layers.
        labels: the classes.
        size: (height, width) to which whole images are resized, in pixels.
        mean, std: of each channel, in units of 0 to 1.
        layout: how the layer's output is read: kind, rows, columns, and the tokens before and after the grid, as in
            :class:`saywhy.Layout`; None is [batch, channel, row, column].
    """

    backbone: str
    layer: str
    kind: CountHeadKind
    grid: int
    hidden: int
    labels: tuple[str, ...]
    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    layout: tuple[str, int, int, int, int] | None = None

    def __post_init__(self) -> None:
        validate("kind", self.kind, CountHeadKind)
        whole_number("grid", self.grid, 1, MOST_CELLS)
        whole_number("hidden", self.hidden, 1, 2**16)
        if self.kind == "glance" and self.grid != 1:
            raise InputError(f"glancing takes the whole image, a grid of 1, got a grid of {self.grid}.")
        if not self.labels or len(set(self.labels)) < len(self.labels):
            raise InputError(f"a counter needs at least one class, and each once, got {short_repr(self.labels)}.")

    @property
    def preprocess(self) -> Preprocess:
        """The whole image, resized: a crop would hide objects."""
        return Preprocess(self.size, None, self.mean, self.std)

    def features(self, backbone: Model) -> PooledCells:
        """Return the features of cells, of a backbone that is loaded."""
        layout = None
        if self.layout is not None:
            kind, rows, columns, before, after = self.layout
            layout = Layout(kind, (rows, columns), before, after)  # type: ignore[arg-type]
        return PooledCells(LayerFeatures(backbone, self.layer, layout), self.grid)

    def head(self, features: int) -> CountHead:
        """Return the network that counts, with random weights.

        Args:
            features: the number of features of a cell.
        """
        classes = len(self.labels)
        if self.kind == "glance":
            return Glance(features, classes, self.hidden)
        if self.kind == "associative":
            return AssociativeSubitizing(features, classes, self.grid, self.hidden)
        return SequentialSubitizing(features, classes, self.grid, self.hidden)

    def model(self, counter: Counter, name: str = "") -> Model:
        """Return a counter of this description as a model."""
        return counter_model(counter, self.labels, self.preprocess, name, f"features.features.network.{self.layer}")

    def text(self) -> str:
        """Return the description as JSON, for metadata."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @staticmethod
    def read(text: str) -> "CounterDescription":
        """Return the description from :meth:`text`.

        Raises:
            WeightsError: the text is none.
        """
        try:
            record = parse_json(text)
            known: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value for name, value in record.items()
            }
            found = CounterDescription(**known)
            numbers = [*found.size, *found.mean, *found.std]
            if len(numbers) != 8 or not all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers):
                raise ValueError(f"size, mean and std are numbers, got {short_repr(numbers)}")
            if not all(isinstance(t, str) for t in (found.backbone, found.layer, *found.labels)):
                raise ValueError("names are texts")
            if found.layout is not None:
                kind, *sizes = found.layout
                if kind not in LAYOUTS or len(sizes) != 4 or any(type(n) is not int or n < 0 for n in sizes):
                    raise ValueError(f"a layout is a kind and four whole numbers, got {short_repr(found.layout)}")
            return found
        except (ValueError, TypeError, AttributeError, InputError) as error:
            raise WeightsError(f"the metadata describe no counter: {error}. Train it again.") from error


@source("counter", reading="counters that `saywhy train counter` wrote: counter:FILE.safetensors")
def load_counter(name: str, weights: Any = None) -> Model:
    """Return the counter in a file.

    Args:
        name: the path of the file.
        weights: "random" leaves the network untrained; None takes those of the file. Others are refused.

    Raises:
        ModelError: its backbone is not known here.
        WeightsError: the file cannot be read, or holds no counter.
    """
    if weights not in (None, "random"):
        raise WeightsError(f"the file '{name}' holds the weights of its counter: leave weights out.")
    metadata = _metadata(Path(name).expanduser())
    if ENTRY not in metadata:
        raise WeightsError(f"'{name}' has no description of a counter ('{ENTRY}') in its metadata. Train it again.")
    described = CounterDescription.read(metadata[ENTRY])
    try:
        backbone = load(described.backbone, "random")
    except SaywhyError as error:
        raise ModelError(f"'{name}' counts with the features of '{described.backbone}': {error}") from error
    cells = described.features(backbone)
    path = Path(name).expanduser()
    counter = Counter(cells, described.head(_stored_features(path) or number_of_features(cells, *described.size)))
    if weights is None:
        load_weights(counter, path)
    if "count_errors" in metadata:
        counter.errors = CountErrors.read(metadata["count_errors"])
    return described.model(counter.eval(), f"counter:{Path(name).name}")


def _stored_features(path: Path) -> int | None:
    """Return the number of features of a cell in the file, without a pass of the backbone; None if it is not there."""
    from safetensors import safe_open

    with safe_open(path, "pt") as opened:
        for name in FIRST_WEIGHTS:
            if name in opened.keys():  # noqa: SIM118  (no mapping)
                shape = opened.get_slice(name).get_shape()
                return int(shape[1]) if len(shape) == 2 and shape[1] else None
    return None


def _metadata(path: Path) -> dict[str, str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as opened:
            return dict(opened.metadata() or {})
    except (OSError, TypeError, SafetensorError) as error:
        raise WeightsError(f"'{path}' cannot be read as safetensors: {error}.") from error
