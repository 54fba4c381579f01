"""The recipe of ``toybox-images``: the statistics of drawn scenes, at several sizes and as JPEG.

``python -m saywhy.toybox.recipes.image_domain --out FILE.safetensors`` fits it; with folders of photographs behind
it, the share of them that is recognised as no drawn scene is printed.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image
from safetensors.numpy import save_file

from saywhy.images import images_in, read_image
from saywhy.models.domain import ImageDomain
from saywhy.toybox import scene
from saywhy.toybox.image_statistics import KIND, image_statistics

SIZES = (128, 192, 256, 384)
FALSE_ALARMS = 0.005
"""The share of the scenes of the split "val" beyond the limit."""


def scenes(split: str, count: int) -> Iterator[Image.Image]:
    """Yield scenes at several sizes in turn, every third as JPEG."""
    for i in range(count):
        drawn = Image.fromarray(scene(split, i, SIZES[i % len(SIZES)]).image)
        if i % 3 == 0:
            buffer = io.BytesIO()
            drawn.save(buffer, "JPEG", quality=85)
            drawn = Image.open(buffer)
        yield drawn


def fit(train: int, val: int) -> ImageDomain:
    """Fit mean and covariance on scenes of "train", and the limit on scenes of "val"."""
    known = np.stack([image_statistics(image) for image in scenes("train", train)])
    precision = np.linalg.inv(np.cov(known.T) + 1e-6 * np.eye(known.shape[1]))
    domain = ImageDomain(KIND, image_statistics, known.mean(0), precision, 0.0)
    distances = [domain.distance(image) for image in scenes("val", val)]
    return ImageDomain(KIND, image_statistics, domain.mean, precision, float(np.quantile(distances, 1 - FALSE_ALARMS)))


def main(
    out: Annotated[Path, typer.Option(help="FILE.safetensors.")],
    photographs: Annotated[list[Path] | None, typer.Argument(help="Folders of photographs, to measure.")] = None,
    train: int = 1600,
    val: int = 400,
    test: int = 200,
) -> None:
    """Fit the statistics of drawn scenes, and print how many scenes and photographs are beyond the limit."""
    domain = fit(train, val)
    save_file({"mean": domain.mean, "precision": domain.precision, "limit": np.array([domain.limit])}, out)
    print(f"limit {domain.limit:.2f}")
    beyond = np.mean([bool(domain.objection(image)) for image in scenes("test", test)])
    print(f"drawn scenes of the split test: {beyond:.1%} of {test} beyond the limit")
    for folder in photographs or []:
        files = list(images_in([folder]))
        share = np.mean([bool(domain.objection(read_image(file))) for file in files])
        print(f"{folder.parent.name}/{folder.name}: {share:.1%} of {len(files)} beyond the limit")


if __name__ == "__main__":
    typer.run(main)
