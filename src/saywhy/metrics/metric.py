"""The description of a metric: a function with a name, a paper, an equation, a range and a direction."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from saywhy.output import ScoreKind

Better = Literal["higher", "lower"]
Needs = Literal["maps", "masks", "boxes", "network", "probes", "method"]
"""The inputs of a metric; see `Metric`."""

LOOKS_AT: dict[Needs, str] = {
    "maps": "the map",
    "masks": "masks of the object",
    "boxes": "boxes of the object",
    "network": "scores of altered images",
    "probes": "scores of images with hidden parts",
    "method": "reruns of the method",
}
"""The inputs of a metric, in words."""

LAST = 1000
"""The order of metrics that give none."""


@dataclass(frozen=True)
class Metric:
    """A metric of attribution maps with its paper, equation, range and direction.

    Attributes:
        name: the field's name, lower case with hyphens.
        function: returns one number a map, [batch, target]; the first argument is the maps [batch, target, *space], or
            the explanation if it ``needs`` the method.
        title: the name as the paper prints it.
        paper: authors and year.
        equation: the number in one line.
        better: whether a better map has a ``"higher"`` or a ``"lower"`` value.
        low, high: the ends of its range; may be infinite.
        needs: its inputs other than the maps: none (``"maps"``), the object's location (``"masks"``, bool
            [batch, target, height, width], or ``"boxes"``), the network's scores for altered images (``"network"``, or
            ``"probes"``, which serve any number of maps), or the same explanation of altered images and networks
            (``"method"``).
        score: the kind of class score for which the network is run.
        otherwise: the range for a score that is no probability (a contrast of classes, a number that a network
            predicts), if it differs from ``low`` and ``high``.
        order: position in lists; metrics that give none come last.
    """

    name: str
    function: Callable[..., Any]
    title: str
    paper: str
    equation: str
    better: Better
    low: float
    high: float
    needs: Needs
    score: ScoreKind = "probability"
    otherwise: str = ""
    order: int = LAST

    @property
    def reading(self) -> str:
        """How a value is read, in one line.

        >>> Metric("auc", len, "AUC", "", "", "lower", 0.0, 1.0, "network").reading
        'lower is better, 0 to 1'
        """
        return f"{self.better} is better, {self.range}"

    @property
    def range(self) -> str:
        """The range in words.

        >>> Metric("auc", len, "AUC", "", "", "lower", 0.0, 1.0, "network", otherwise="in units of the score").range
        '0 to 1 of a probability, else in units of the score'
        """
        ends = f"{self.low:g} to {self.high:g}"
        return f"{ends} of a probability, else {self.otherwise}" if self.otherwise else ends

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """The keyword parameters with their defaults."""
        signature = inspect.signature(self.function).parameters.values()
        return {p.name: p.default for p in signature if p.kind is p.KEYWORD_ONLY}

    def beats(self, one: float, other: float) -> bool:
        """Return whether one value is better than another.

        >>> Metric("auc", len, "AUC", "", "", "lower", 0.0, 1.0, "network").beats(0.1, 0.2)
        True
        """
        return one > other if self.better == "higher" else one < other


@dataclass(frozen=True)
class DatasetMetric:
    """A dataset-level metric: a statistic of a data set, or a function of other inputs than one map.

    Attributes:
        function: the function that computes it.
        value: what is computed, in a few words.
        better: the direction; for a similarity or distance, the meaning of the direction.
        range: the ends of its range.
        paper: authors and year; ``"ours"``; or ``"common"`` if no single paper introduced it.
        order: position in lists; metrics that give none come last.
    """

    function: Callable[..., Any]
    value: str
    better: str
    range: str
    paper: str
    order: int = LAST

    @property
    def name(self) -> str:
        """The dotted name of the function below ``saywhy.metrics``, or else below ``saywhy``.

        >>> from saywhy.metrics.agreement import ssim
        >>> DatasetMetric(ssim, "", "", "", "").name
        'agreement.ssim'
        """
        module = self.function.__module__.removeprefix("saywhy.").removeprefix("metrics.")
        return f"{module}.{self.function.__name__}"
