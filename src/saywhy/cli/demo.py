"""``saywhy demo``: the whole way on a machine that has nothing but Python."""

from pathlib import Path
from typing import Annotated

import typer

from saywhy.cli import screen

SCENES = (75, 23, 22, 51, 81, 0)
"""Scenes of the test split, chosen by hand to look at; in the last one the classifier is unsure of the dog."""
SIDE = 384
"""Pixels: scenes are drawn larger than the classifier is fed, as photographs are."""

METHODS = ("gradcam", "layercam", "hirescam", "gradcam++", "eigencam")


def demo(
    folder: Annotated[Path, typer.Argument(help="Where the page and the pictures go.")] = Path("out/demo"),
    pictures: Annotated[int, typer.Option(min=1, max=200, help="How many scenes to draw.")] = len(SCENES),
) -> None:
    """Draw Toybox scenes, explain what the shipped classifier says of them, and write a page."""
    from PIL import Image

    with screen.timed("loading torch and saywhy"):
        from saywhy.data.toybox import scene
        from saywhy.explain import explain
        from saywhy.models import load
        from saywhy.targets import Top
        from saywhy.view.album import save_album
    with screen.timed("loading toybox:classifier"):
        model = load("toybox:classifier")
    with screen.timed(f"drawing {pictures} scenes"):
        folder.mkdir(parents=True, exist_ok=True)
        files = []
        for index in [*SCENES, *(i for i in range(pictures) if i not in SCENES)][:pictures]:
            files.append(folder / f"scene-{index}.png")
            Image.fromarray(scene("test", index, SIDE).image).save(files[-1])
    explanations = []
    with screen.noted_warnings():
        with screen.timed("finding the layer and proving its layout"):
            explain(model, files[0], relu=False)
        with screen.timed(f"explaining: {pictures} pictures × 3 answers × {len(METHODS)} methods"):
            explanations = [explain(model, file, Top(3), METHODS) for file in files]
        with screen.timed("writing the page"):
            save_album(explanations, folder / "index.html", "What does the Toybox classifier look at?")
            explain(model, files[0], Top(3)).save(folder / "why.png")
    print(f"open {(folder / 'index.html').resolve()}")
