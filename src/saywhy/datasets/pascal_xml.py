"""Annotations of images as XML files, in the form that PASCAL VOC introduced and ILSVRC took over.

    <annotation>
      <size><width>500</width><height>375</height></size>
      <object>
        <name>cat</name><difficult>0</difficult>
        <bndbox><xmin>111</xmin><ymin>108</ymin><xmax>441</xmax><ymax>193</ymax></bndbox>
      </object>
    </annotation>

``xmax`` and ``ymax`` are the last pixels that belong to the thing: both data sets' own programs take
``xmax - xmin + 1`` for the width. Whether the first pixel of an image has the number 0 or 1 is another matter, on
which they differ.

Such files need no document type, and one can make a parser expand a few lines into gigabytes or read other files, so
that any is refused before it is looked into.
"""

import math
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from saywhy.datasets.localized import Size, contents
from saywhy.errors import InputError
from saywhy.images import Box

EDGES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class AnnotatedObject:
    """One object of an annotation.

    Attributes:
        place: the file and the object's number in it, for messages.
        name: as it is written.
        box: left, top, right, bottom in pixels from 0, the last two exclusive; as it is written, also beyond the
            image.
        difficult: marked as hard to recognise.
    """

    place: str
    name: str
    box: Box
    difficult: bool


@dataclass(frozen=True)
class ImageAnnotation:
    """What a file says.

    Attributes:
        size: width and height of the image; None where it does not say, or says 0.
        objects: in the order of the file.
    """

    size: Size | None
    objects: tuple[AnnotatedObject, ...]


def read_annotation(path: Path, first: int) -> ImageAnnotation:
    """The annotation of an image.

    Args:
        path: the XML file.
        first: the number of an image's first pixel, 1 (VOC) or 0 (ILSVRC). The box of xmin to xmax, both included, is
            from ``xmin - first`` to ``xmax - first + 1``.

    Raises:
        InputError: there is no such file, it is no XML, has a document type, or lacks something.
    """
    root = _root(path)
    if root.tag != "annotation":
        raise InputError(
            f"'{path}' must hold <annotation>, got <{root.tag}>. Is it the annotation of an image, as VOC's are?"
        )
    objects = (_marked(f"'{path}', object {n}", part, first) for n, part in enumerate(root.findall("object"), 1))
    return ImageAnnotation(_size(path, root), tuple(objects))


class _WithoutDoctype(ET.TreeBuilder):
    """Builds the tree, and refuses a document type before the entities in it are read."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise InputError(
            f"it has a document type (<!DOCTYPE {name} …>), which annotations of images do not need and which can "
            "make a reader expand entities without end. Take it out if you trust the file"
        )


def _root(path: Path) -> ET.Element:
    data = contents(path, "the XML annotation of an image")
    parser = ET.XMLParser(target=_WithoutDoctype())
    try:
        parser.feed(data)
        root: ET.Element = parser.close()
    except InputError as error:
        raise InputError(f"'{path}' is refused: {error}.") from None
    except (ET.ParseError, ValueError, LookupError) as error:  # the last two: an encoding that is not known
        raise InputError(f"'{path}' is no XML that can be read: {error}. Is the file complete?") from error
    return root


def _marked(place: str, part: ET.Element, first: int) -> AnnotatedObject:
    name = (part.findtext("name") or "").strip()
    if not name:
        raise InputError(f"{place}: an object needs a <name>, got none. Write what it is.")
    bounds = part.find("bndbox")
    if bounds is None:
        held = ", ".join(f"<{child.tag}>" for child in part)
        raise InputError(f"{place} ('{name}'): an object needs a <bndbox>, got {held}. Give it one, or take it out.")
    xmin, ymin, xmax, ymax = (_number(f"{place} ('{name}')", bounds, edge) for edge in EDGES)
    box = (xmin - first, ymin - first, xmax - first + 1, ymax - first + 1)
    difficult = (part.findtext("difficult") or "0").strip()
    if difficult not in ("0", "1"):
        raise InputError(f"{place} ('{name}'): <difficult> must be 0 or 1, got '{difficult}'. Write one of them.")
    return AnnotatedObject(f"{place} ('{name}')", name, box, difficult == "1")


def _size(path: Path, root: ET.Element) -> Size | None:
    part = root.find("size")
    if part is None:
        return None
    width, height = (_number(f"'{path}', <size>", part, side) for side in ("width", "height"))
    if width == height == 0:
        return None
    if width < 1 or height < 1 or width % 1 or height % 1:
        raise InputError(
            f"'{path}', <size>: width and height must be whole numbers from 1 on, got {width:g} and {height:g}. "
            "Correct them, or take <size> out: then the image is asked."
        )
    return int(width), int(height)


def _number(place: str, part: ET.Element, tag: str) -> float:
    text = part.findtext(tag)
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        came = "nothing" if text is None else repr(text[:40])
        raise InputError(f"{place}: <{tag}> must be a number of pixels, got {came}. Correct it.")
    return value
