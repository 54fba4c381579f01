"""What a benchmark measures, and on which images of a data set."""

from dataclasses import dataclass

METHODS = ("gradcam", "hirescam", "layercam", "gradcam++", "saliency")
METRICS = ("pointing-game", "energy-pointing", "box-iou", "faithfulness-correlation", "deletion", "insertion")


@dataclass(frozen=True)
class BenchmarkConfig:
    """What is measured; a run goes on only with the same.

    Attributes:
        model, weights: its name, and the digest of its weights.
        data, size: the name of the data set, and how many images it has.
        count: of how many it is measured, spread evenly over the data set.
        methods, metrics: names.
        layer: None is found.
        seed: of all that is random: of the maps as it is, of what evaluates an image (its noise, its hidden parts) with
            the image's index in the data set (:func:`saywhy.metrics.class_agnostic.sample_seed`).
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
    """So many indices, evenly from the first to the last.

    >>> evenly_spaced(10, 3), evenly_spaced(2, 5)
    ([0, 3, 6], [0, 1])
    """
    count = min(count or size, size)
    return [i * size // count for i in range(count)]
