"""The configuration of a benchmark: model, data, methods, metrics and images."""

from dataclasses import dataclass

METHODS = ("gradcam", "hirescam", "layercam", "gradcam++", "saliency")
METRICS = ("pointing-game", "energy-pointing", "box-iou", "faithfulness-correlation", "deletion", "insertion")


@dataclass(frozen=True)
class BenchmarkConfig:
    """The configuration of a benchmark; a run resumes only with an equal one.

    Attributes:
        model, weights: its name, and the digest of its weights.
        data, size: the name of the data set, and its number of images.
        count: the number of evaluated images, evenly spaced over the data set.
        methods, metrics: names.
        layer: None chooses it automatically.
        seed: of all random numbers. Maps use it as it is; metrics (noise, perturbations) combine it with the image's
            index in the data set (:func:`saywhy.metrics.class_agnostic.sample_seed`).
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


def evenly_spaced(size: int, count: int | None) -> list[int]:
    """Return ``count`` indices, evenly spaced from the first.

    >>> evenly_spaced(10, 3), evenly_spaced(2, 5)
    ([0, 3, 6], [0, 1])
    """
    count = min(count or size, size)
    return [i * size // count for i in range(count)]
