"""Captions of regions: the features of region proposals, and where the things are that the words of captions name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saywhy.alignment.importance import Importance, box_importance
from saywhy.models import load
from saywhy.tasks.captioning.word_alignment import CaptionItems
from saywhy.tasks.vocabulary import Vocabulary
from saywhy.toybox import Scene, SceneObject, scene
from saywhy.toybox.language import captions
from saywhy.toybox.recipes.draw import CHUNK, mapper
from saywhy.toybox.recipes.region_data import region_features
from saywhy.toybox.scenes.proposals import COUNT, proposals
from saywhy.validation import validate

Annotation = Literal["mask", "box"]
"""What people give for a word: the masks of the objects that it names, or their boxes, filled."""

Noun = tuple[int, int, int, np.ndarray, np.ndarray]
"""Scene, caption and place of a noun, the importance of every region, and which regions lie on its objects."""


@dataclass(frozen=True)
class CaptionRegionData:
    """Scenes as regions, with captions, and for every noun that names objects the importance of every region.

    Attributes:
        regions, boxes: as of :class:`saywhy.toybox.recipes.region_data.RegionData`.
        texts: the captions of every scene.
        words: their words' numbers, padded with 0.
        nouns: [noun, 3]: scene, caption and place of every word that names the kind of objects.
        importance: of people, from 0 to 1: :func:`saywhy.alignment.importance.box_importance` of the masks or boxes of
            the noun's objects.
        on_object: whether the centre of a region lies in the box of one of the noun's objects.
    """

    regions: Float[Tensor, "scene region channel"]
    boxes: Int[Tensor, "scene region 4"]
    texts: list[list[str]]
    words: Int[Tensor, "scene caption word"]
    nouns: Int[Tensor, "noun 3"]
    importance: Importance
    on_object: Bool[Tensor, "noun region"]

    def __len__(self) -> int:
        return len(self.regions)

    @property
    def items(self) -> CaptionItems:
        """All nouns, as items to train on."""
        scenes, which, places = self.nouns.unbind(1)
        return CaptionItems(scenes, self.words[scenes, which], places)


def caption_vocabulary() -> Vocabulary:
    """Return the vocabulary of ``toybox:captioner``.

    >>> caption_vocabulary().unknown("a red kite")
    ('kite',)
    """
    return Vocabulary(load("toybox:captioner").labels or ())


def caption_region_data(
    split: str,
    count: int,
    known: Vocabulary | None = None,
    regions: int = COUNT,
    annotation: Annotation = "mask",
    processes: int = 0,
    report: Callable[[int], object] | None = None,
) -> CaptionRegionData:
    """Draw the first ``count`` scenes of a split, in this process or in a pool; the result is the same.

    Args:
        split: of Toybox. The splits "biased-…" are a robust split (Lu et al., 2018), in which other objects occur
            together in the test than in training.
        count: the number of scenes.
        known: the vocabulary; None is that of ``toybox:captioner``.
        regions: region proposals per scene, from 16 to 36.
        annotation: what people's importance is computed from; the paper has masks.
        processes: 0 draws in this process.
        report: called with the number of scenes in every finished chunk.

    Raises:
        InputError: there is no such split or annotation, or not so many region proposals.

    >>> data = caption_region_data("biased-val", 2)
    >>> data.regions.shape, data.words.shape[:2], len(data.nouns) == len(data.importance)
    (torch.Size([2, 24, 52]), torch.Size([2, 5]), True)
    """
    validate("annotation", annotation, Annotation)
    known = caption_vocabulary() if known is None else known
    images: list[np.ndarray] = []
    boxes: list[np.ndarray] = []
    texts: list[list[str]] = []
    nouns: list[Noun] = []
    with mapper(processes) as mapped:
        for drawn, placed, said, found in mapped(
            partial(_chunk, split, count, regions, annotation), range(0, count, CHUNK)
        ):
            images.append(drawn)
            boxes.append(placed)
            texts += said
            nouns += found
            if report is not None:
                report(len(drawn))
    all_boxes = torch.from_numpy(np.concatenate(boxes))
    flat = known.batch([text for of_scene in texts for text in of_scene])
    trunk = load("toybox:vqa").module.trunk
    return CaptionRegionData(
        region_features(trunk, torch.from_numpy(np.concatenate(images)), all_boxes),  # type: ignore[arg-type]
        all_boxes,
        texts,
        flat.unflatten(0, (len(texts), -1)),
        torch.tensor([noun[:3] for noun in nouns]).view(-1, 3),
        torch.from_numpy(np.array([noun[3] for noun in nouns], np.float32).reshape(-1, regions)),
        torch.from_numpy(np.array([noun[4] for noun in nouns], bool).reshape(-1, regions)),
    )


def noun_importance(
    drawn: Scene, named: Sequence[SceneObject], boxes: Int[np.ndarray, "region 4"], annotation: Annotation = "mask"
) -> Float[np.ndarray, " region"]:
    """Return people's importance of regions to a word that names objects, from 0 to 1.

    >>> drawn = scene("talk-test", 1)
    >>> noun_importance(drawn, drawn.objects[:1], np.array([drawn.objects[0].box]))
    array([1.], dtype=float32)
    """
    evidence = np.zeros(drawn.image.shape[:2], np.float32)
    for thing in named:
        left, top, right, bottom = thing.box
        evidence[top:bottom, left:right] = np.maximum(
            evidence[top:bottom, left:right], thing.mask[top:bottom, left:right] if annotation == "mask" else 1
        )
    found: np.ndarray = box_importance(torch.from_numpy(evidence)[None], torch.from_numpy(boxes)[None])[0].numpy()
    return found


def on_objects(named: Sequence[SceneObject], boxes: Int[np.ndarray, "region 4"]) -> Bool[np.ndarray, " region"]:
    """Return whether the centre of each region lies in the box of one of some objects.

    >>> drawn = scene("talk-test", 1)
    >>> on_objects(drawn.objects[:1], np.array([drawn.objects[0].box, [0, 0, 2, 2]]))
    array([ True, False])
    """
    x, y = boxes[:, [0, 2]].mean(1), boxes[:, [1, 3]].mean(1)
    found = np.zeros(len(boxes), bool)
    for thing in named:
        left, top, right, bottom = thing.box
        found |= (left <= x) & (x < right) & (top <= y) & (y < bottom)
    return found


def _chunk(
    split: str, count: int, regions: int, annotation: Annotation, start: int
) -> tuple[np.ndarray, np.ndarray, list[list[str]], list[Noun]]:
    """Return images, boxes, captions and nouns of at most ``CHUNK`` scenes from ``start``."""
    scenes = [scene(split, index) for index in range(start, min(start + CHUNK, count))]
    boxes = np.stack([proposals(drawn, regions) for drawn in scenes])
    texts: list[list[str]] = []
    nouns: list[Noun] = []
    for number, (drawn, placed) in enumerate(zip(scenes, boxes, strict=True)):
        said = captions(drawn)
        texts.append([caption.text for caption in said])
        of_objects: dict[tuple[int, ...], tuple[np.ndarray, np.ndarray]] = {}  # captions name the same objects
        for which, caption in enumerate(said):
            for place in caption.nouns(drawn):
                meant = tuple(sorted(caption.objects[place]))
                if meant not in of_objects:
                    named = [drawn.objects[i] for i in meant]
                    importance = noun_importance(drawn, named, placed, annotation)
                    of_objects[meant] = importance, on_objects(named, placed)
                nouns.append((start + number, which, place, *of_objects[meant]))
    images = np.ascontiguousarray(np.stack([drawn.image for drawn in scenes]).transpose(0, 3, 1, 2))
    return images, boxes, texts, nouns
