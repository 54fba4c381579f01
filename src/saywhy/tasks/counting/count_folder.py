"""Counts of many images without maps: in batches, resumable, with totals."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from saywhy.errors import ImageError, InputError, SaywhyError, SaywhyWarning, first_line
from saywhy.explainer.config import ExplainConfig
from saywhy.explainer.prepare import prepare
from saywhy.io.limits import check_text
from saywhy.models import Model
from saywhy.targets import Count
from saywhy.tasks.counting.count import ObjectCount, counts_of
from saywhy.tasks.counting.reading import read_counts
from saywhy.validation import whole_number


@dataclass(frozen=True)
class CountRow:
    """The counts of one image file.

    Attributes:
        image: the path as given.
        digest: of the file's bytes: the first 16 characters of their SHA-256.
        model: the name of the model.
        weights: the first 16 characters of the digest of its weights and of the threshold.
        counts: by class, whole numbers, in the order of the model's classes.
    """

    image: str
    digest: str
    model: str
    weights: str
    counts: Mapping[str, int]

    @property
    def total(self) -> int:
        """The number of all objects."""
        return sum(self.counts.values())


def count_images(
    model: Model,
    images: Sequence["str | Path"],
    *,
    known: Sequence[CountRow] = (),
    batch_size: int = 32,
    threshold: float = 0.5,
    failed: Callable[[str, str], object] | None = None,
) -> Iterator[CountRow]:
    """Count the objects in image files, a batch at a time and without maps; yield a row for each, in their order.

    A row that is known already, of the same bytes and the same model, is not computed again. Images whose inputs have
    another size than the batch's are run by themselves.

    Args:
        model: as for :func:`saywhy.count`; it must know its preprocessing.
        images: the paths.
        known: rows of an earlier call.
        batch_size: the images of one pass.
        threshold: of a detector's boxes.
        failed: called with the path and the message of an image that cannot be read, which is then left out; None
            raises it.

    Raises:
        ImageError: an image cannot be read, and ``failed`` is None.
        TargetError: nothing in the model's output is a count.
        InputError: the model has no preprocessing.

    >>> from tempfile import TemporaryDirectory
    >>> import torch
    >>> from PIL import Image
    >>> from torch import nn
    >>> from saywhy.models import Preprocess
    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    >>> counter = Model(network.eval(), "mine", Preprocess((2, 2), None), ("cat", "mug"), scale="value")
    >>> with TemporaryDirectory() as folder:
    ...     Image.new("RGB", (4, 4)).save(f"{folder}/a.png")
    ...     rows = list(count_images(counter, [f"{folder}/a.png"]))
    >>> list(rows[0].counts)
    ['cat', 'mug']
    """
    size = whole_number("batch_size", batch_size, 1)
    weights = sha256(f"{model.digest()} {threshold:g}".encode()).hexdigest()[:16]
    earlier = {(row.image, row.digest): row for row in known if (row.model, row.weights) == (model.name, weights)}
    for start in range(0, len(images), size):
        part, digests = [], []
        for path in map(str, images[start : start + size]):
            try:
                digests.append(_digest(path))
                part.append(path)
            except SaywhyError as error:
                _tell(path, error, failed)
        new = [path for path, digest in zip(part, digests, strict=True) if (path, digest) not in earlier]
        found = _counted(model, new, threshold, failed) if new else {}
        for path, digest in zip(part, digests, strict=True):
            if (path, digest) in earlier:
                yield earlier[path, digest]
            elif path in found:
                counts = {one.name: one.count for one in found[path]}
                yield CountRow(path, digest, model.name, weights, counts)


def totals(rows: Sequence[CountRow]) -> dict[str, int]:
    """Return the sum of every class over all rows.

    >>> totals([CountRow("a.png", "", "m", "", {"cat": 1, "mug": 2}), CountRow("b.png", "", "m", "", {"cat": 3})])
    {'cat': 4, 'mug': 2}
    """
    names = dict.fromkeys(name for row in rows for name in row.counts)
    return {name: sum(row.counts.get(name, 0) for row in rows) for name in names}


def _counted(
    model: Model, paths: Sequence[str], threshold: float, failed: Callable[[str, str], object] | None
) -> dict[str, tuple[ObjectCount, ...]]:
    """Return the counts of images by path; where they are no batch, one by one."""
    if len(paths) > 1:
        try:
            return _of_batch(model, paths, threshold)
        except InputError:
            pass  # several sizes, or a network of one image at a time: what else is wrong shows below
        except ImageError:
            if failed is None:
                raise
    found: dict[str, tuple[ObjectCount, ...]] = {}
    for path in paths:
        try:
            found |= _of_batch(model, [path], threshold)
        except ImageError as error:
            _tell(path, error, failed)
    return found


def _of_batch(model: Model, paths: Sequence[str], threshold: float) -> dict[str, tuple[ObjectCount, ...]]:
    runner, batch = prepare(model, list(paths), ExplainConfig(Count(threshold=threshold)))
    for path, source in zip(paths, batch.images(), strict=True):
        if source.objection:
            warnings.warn(f"{path}: {source.objection}.", SaywhyWarning, stacklevel=2)
    read = read_counts(runner.predict(batch), threshold)
    return dict(zip(paths, counts_of(runner.model, read), strict=True))


def _digest(path: str) -> str:
    try:
        check_text(Path(path), ImageError)
        return sha256(Path(path).read_bytes()).hexdigest()[:16]
    except (OSError, ValueError) as error:
        raise ImageError(
            f"'{path}' cannot be read: {getattr(error, 'strerror', None) or first_line(error)}."
        ) from error


def _tell(path: str, error: SaywhyError, failed: Callable[[str, str], object] | None) -> None:
    if failed is None:
        raise error
    failed(path, str(error))
