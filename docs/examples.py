"""The files of the examples on the pages, and how the pages show an image.

Every scene is drawn by Toybox, and every network is one of Toybox's: what the pages show can be made anywhere.
"""

import base64
import io
import shutil
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file

import saywhy
from saywhy.toybox import scene

SIDE = 384

MY_MODEL = '''"""A network of mine: `saywhy explain photo.png --model my_model.py:network`."""

import saywhy


def network():
    """A bare torch.nn.Module, trained on drawn scenes of 128 x 128 pixels."""
    return saywhy.load("toybox:classifier").module
'''


def prepare(folder: Path) -> None:
    """Make the folder anew: ``photo.png`` and others, a folder of images, a file with a network, a checkpoint."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "images").mkdir(parents=True)
    for name, index in {"photo": 75, "another": 12}.items():
        Image.fromarray(scene("test", index, SIDE).image).save(folder / f"{name}.png")
    Image.fromarray(scene("talk-test", 33, SIDE).image).save(folder / "scene.png")
    for index in range(200, 206):
        Image.fromarray(scene("test", index, SIDE).image).save(folder / "images" / f"{index}.png")
    (folder / "my_model.py").write_text(MY_MODEL, encoding="utf-8")
    (folder / "labels.txt").write_text("\n".join(saywhy.load("toybox:classifier").labels or ()), encoding="utf-8")
    torch.manual_seed(0)
    two = saywhy.load("torchvision:resnet18", weights="random").module
    two.fc = torch.nn.Linear(512, 2)
    save_file({name: value.contiguous() for name, value in two.state_dict().items()}, folder / "two.safetensors")


def shown(image: "Image.Image | str | Path", width: int = 640) -> str:
    """An image as HTML that holds it.

    >>> shown(Image.new("RGB", (2, 2)))[:38]
    '<img alt="" src="data:image/webp;base6'
    """
    image = image if isinstance(image, Image.Image) else Image.open(image)
    image = image.convert("RGB")
    image.thumbnail((width, 4 * width))
    held = io.BytesIO()
    image.save(held, "WEBP", quality=80)
    return f'<img alt="" src="data:image/webp;base64,{base64.b64encode(held.getvalue()).decode()}">'
