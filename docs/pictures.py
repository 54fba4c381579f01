"""Draw the pictures of README and docs: ``python -m docs.pictures``."""

import tempfile
from pathlib import Path

from PIL import Image

import saywhy
from saywhy.data.toybox import scene
from saywhy.data.toybox.sheet import sheet
from saywhy.speaking import caption
from saywhy.targets import Top

IMAGES = Path(__file__).parent / "images"
SIDE = 384


def main() -> None:
    """Three answers of the classifier, a caption word by word, and scenes of Toybox."""
    with tempfile.TemporaryDirectory() as folder:
        answers, said = (Path(folder) / f"scene-{index}.png" for index in (75, 33))
        Image.fromarray(scene("test", 75, SIDE).image).save(answers)
        Image.fromarray(scene("talk-test", 33, SIDE).image).save(said)
        saywhy.explain("toybox:classifier", answers, Top(3)).save(IMAGES / "why.png")
        caption(saywhy.load("toybox:captioner"), said).save(IMAGES / "words.png")
    sheet("test", range(200, 232), 8, 128).save(IMAGES / "toybox.png", optimize=True)


if __name__ == "__main__":
    main()
