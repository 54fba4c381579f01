"""Draw the gallery: the same three images under every method (``python -m docs.gallery``)."""

import warnings
from pathlib import Path

from PIL import Image

import saywhy
from saywhy.methods import METHODS
from saywhy.toybox import scene
from saywhy.view.overlay import heat_over

DOCS = Path(__file__).parent
INDICES = (75, 12, 201)
SIDE = 192

HEAD = """# Gallery

The same three drawn scenes under every method, for the class that the model names (`toybox:classifier`). Drawn by
`python -m docs.gallery`. Do not choose a method by its looks: [choose a method](how-to/choose-a-method.md).

"""


def draw() -> str:
    """Draw a strip of three overlays for every method, and return the page."""
    model = saywhy.load("toybox:classifier")
    images = [Image.fromarray(scene("test", index, SIDE).image) for index in INDICES]
    page, missing = HEAD, []
    for name, method in METHODS.items():
        try:
            with warnings.catch_warnings(action="ignore", category=saywhy.SaywhyWarning):
                e = saywhy.explain(model, images, None, name)
        except saywhy.SaywhyError:
            missing.append(f"`{name}`")
            continue
        strip = Image.new("RGB", (SIDE * len(images), SIDE))
        for place, image in enumerate(images):
            strip.paste(heat_over(image, e.on_image(place)), (SIDE * place, 0))
        file = DOCS / "images" / "gallery" / f"{name.replace('+', 'p')}.webp"
        file.parent.mkdir(exist_ok=True)
        strip.save(file, quality=70)
        told = f"`{name}` · {method.paper} · {method.equation} · passes: {method.passes}"
        page += f"## {method.title}\n\n{told}\n\n![{method.title} of three scenes]({file.relative_to(DOCS)})\n\n"
    left_out = ", ".join(missing)
    return f"{page}## Not drawn\n\nMethods of attention, which this network does not have: {left_out}.\n"


if __name__ == "__main__":
    (DOCS / "gallery.md").write_text(draw(), encoding="utf-8")
