"""What a metric is: a function with a name, a paper, an equation, a range and a direction."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from saywhy.output import ScoreKind

Better = Literal["higher", "lower"]
Needs = Literal["maps", "masks", "boxes", "network", "probes", "method"]
"""What a metric looks at; see `Metric`."""

LOOKS_AT: dict[Needs, str] = {
    "maps": "the map",
    "masks": "where the object is (masks)",
    "boxes": "where the object is (boxes)",
    "network": "scores of altered images",
    "probes": "scores of images with hidden parts",
    "method": "the method, asked again",
}
"""What a metric looks at, in words."""

LAST = 1000
"""The place in lists of what names none."""


@dataclass(frozen=True)
class Metric:
    """A way to judge maps.

    Attributes:
        name: the field's name, lower case with hyphens.
        function: gives one number a map, [batch, target]; its first argument are the maps [batch, target, *space].
        title: the name as its paper prints it.
        paper: authors and year.
        equation: the number in one line.
        better: whether a map that deserves more trust has a ``"higher"`` or a ``"lower"`` value.
        low, high: the ends of its range; infinite where there is none.
        needs: what it looks at beside the maps: nothing (``"maps"``), where the thing is (``"masks"``, bool
            [batch, target, height, width], or ``"boxes"``), the network's scores for altered images (``"network"``,
            or ``"probes"`` that serve any number of maps), or the same explanation of altered images and networks
            (``"method"``).
        score: what the score of a class is where the network is asked.
        otherwise: what the range is where the score is no probability (a contrast of classes, a number that a network
            predicts), if it is another one: ``low`` and ``high`` do not hold there.
        order: its place in lists; what names none comes last.
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
        """Its range in words.

        >>> Metric("auc", len, "AUC", "", "", "lower", 0.0, 1.0, "network", otherwise="in units of the score").range
        '0 to 1 of a probability, else in units of the score'
        """
        ends = f"{self.low:g} to {self.high:g}"
        return f"{ends} of a probability, else {self.otherwise}" if self.otherwise else ends

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """Keyword parameters with their defaults."""
        signature = inspect.signature(self.function).parameters.values()
        return {p.name: p.default for p in signature if p.kind is p.KEYWORD_ONLY}

    def beats(self, one: float, other: float) -> bool:
        """Whether one value is better than another one.

        >>> Metric("auc", len, "AUC", "", "", "lower", 0.0, 1.0, "network").beats(0.1, 0.2)
        True
        """
        return one > other if self.better == "higher" else one < other


@dataclass(frozen=True)
class DatasetMetric:
    """A dataset-level metric: a statistic of a data set, or a function of something else than one map.

    Attributes:
        function: gives it.
        value: what it says.
        better: in which direction; of a similarity or distance, what the direction means.
        range: its ends.
        paper: authors and year; ``"ours"``; or ``"common"`` where it is of no one paper.
        order: its place in lists; what names none comes last.
    """

    function: Callable[..., Any]
    value: str
    better: str
    range: str
    paper: str
    order: int = LAST

    @property
    def name(self) -> str:
        """Where the function is, below ``saywhy.metrics`` or else below ``saywhy``.

        >>> from saywhy.metrics.agreement import ssim
        >>> DatasetMetric(ssim, "", "", "", "").name
        'agreement.ssim'
        """
        module = self.function.__module__.removeprefix("saywhy.").removeprefix("metrics.")
        return f"{module}.{self.function.__name__}"
