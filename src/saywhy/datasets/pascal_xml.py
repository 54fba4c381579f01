"""Image annotations as XML files, in the format of PASCAL VOC, which ILSVRC also uses.

    <annotation>
      <size><width>500</width><height>375</height></size>
      <object>
        <name>cat</name><difficult>0</difficult>
        <bndbox><xmin>111</xmin><ymin>108</ymin><xmax>441</xmax><ymax>193</ymax></bndbox>
      </object>
    </annotation>

``xmax`` and ``ymax`` are the last pixels of the object: the programs of both data sets compute the width as
``xmax - xmin + 1``. The two data sets differ in the number of the first pixel, 0 or 1.

A document type (DTD) is refused before it is parsed: annotations need none, and a DTD can make a parser expand a few
lines into gigabytes or read other files.
"""

import math
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from saywhy.datasets.localized import Size, contents
from saywhy.errors import InputError
from saywhy.images import MOST_PIXELS, Box

EDGES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class AnnotatedObject:
    """One object of an annotation.

    Attributes:
        place: the file and the object's number in it, for messages.
        name: as written.
        box: left, top, right, bottom in pixels from 0, the last two exclusive; as written, also beyond the image.
        difficult: marked as hard to recognise.
    """

    place: str
    name: str
    box: Box
    difficult: bool


@dataclass(frozen=True)
class ImageAnnotation:
    """The annotation of one image.

    Attributes:
        size: width and height of the image; None where the file has none, or 0.
        objects: in the order of the file.
    """

    size: Size | None
    objects: tuple[AnnotatedObject, ...]


def read_annotation(path: Path, first: int) -> ImageAnnotation:
    """Read the annotation of an image.

    Args:
        path: the XML file.
        first: the number of an image's first pixel, 1 (VOC) or 0 (ILSVRC). A box from xmin to xmax, both inclusive,
            becomes ``xmin - first`` to ``xmax - first + 1``.

    Raises:
        InputError: there is no such file, it is no XML, has a document type, or lacks a field.
    """
    root = _root(path)
    if root.tag != "annotation":
        raise InputError(
            f"'{path}' must hold <annotation>, got <{root.tag}>. Is it an image annotation in VOC's format?"
        )
    objects = (_object(f"'{path}', object {n}", part, first) for n, part in enumerate(root.findall("object"), 1))
    return ImageAnnotation(_size(path, root), tuple(objects))


class _WithoutDoctype(ET.TreeBuilder):
    """A tree builder that refuses a document type before its entities are read."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise InputError(
            f"it has a document type (<!DOCTYPE {name} …>), which image annotations do not need and which can make a "
            "parser expand entities without end. Remove it if you trust the file"
        )


def _root(path: Path) -> ET.Element:
    data = contents(path, "the XML annotation of an image")
    parser = ET.XMLParser(target=_WithoutDoctype())
    try:
        parser.feed(data)
        root: ET.Element = parser.close()
    except InputError as error:
        raise InputError(f"'{path}' is refused: {error}.") from None
    except (ET.ParseError, ValueError, LookupError) as error:  # the last two: an unknown encoding
        raise InputError(f"'{path}' is no XML that can be read: {error}. Is the file complete?") from error
    return root


def _object(place: str, part: ET.Element, first: int) -> AnnotatedObject:
    name = (part.findtext("name") or "").strip()
    if not name:
        raise InputError(f"{place}: an object needs a <name>, got none. Write its class.")
    bounds = part.find("bndbox")
    if bounds is None:
        tags = ", ".join(f"<{child.tag}>" for child in part)
        raise InputError(f"{place} ('{name}'): an object needs a <bndbox>, got {tags}. Add one, or remove the object.")
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
    if width < 1 or height < 1 or width % 1 or height % 1 or width * height > MOST_PIXELS:
        raise InputError(
            f"'{path}', <size>: width and height must be whole numbers from 1 on, of at most {MOST_PIXELS:,} pixels, "
            f"got {width:g} and {height:g}. "
            "Correct them, or remove <size>: then the size is read from the image."
        )
    return int(width), int(height)


def _number(place: str, part: ET.Element, tag: str) -> float:
    text = part.findtext(tag)
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        got = "nothing" if text is None else repr(text[:40])
        raise InputError(f"{place}: <{tag}> must be a number of pixels, got {got}. Correct it.")
    return value
