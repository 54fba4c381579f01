"""Draw the images of README and docs: ``python -m docs.pictures``."""

import tempfile
from pathlib import Path

from PIL import Image

import saywhy
from research.claims import failure_modes
from research.claims.cases import REAL
from saywhy.targets import Top
from saywhy.toybox import scene
from saywhy.toybox.scenes.sheet import sheet

IMAGES = Path(__file__).parent / "images"
SIDE = 384


def main() -> None:
    """Three answers of the classifier, scenes of Toybox, and, where they are at hand, photographs that it got wrong."""
    with tempfile.TemporaryDirectory() as folder:
        answers = Path(folder) / "scene-75.png"
        Image.fromarray(scene("test", 75, SIDE).image).save(answers)
        saywhy.explain("toybox:classifier", answers, Top(3)).save(IMAGES / "why.png")
    sheet("test", range(200, 232), 8, 128).save(IMAGES / "toybox.png", optimize=True)
    if REAL.is_dir():
        failure_modes.draw(IMAGES)  # for research only: not in the repository


if __name__ == "__main__":
    main()
