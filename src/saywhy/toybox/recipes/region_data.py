"""Questions about regions: the features of region proposals, and the importance of each by people's attention."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from saywhy.alignment.importance import box_importance
from saywhy.models import load
from saywhy.tasks.vocabulary import Vocabulary
from saywhy.toybox import scene
from saywhy.toybox.language import TYPES, human_attention, questions
from saywhy.toybox.models.vision_language import CHANNELS, ToyboxTrunk
from saywhy.toybox.recipes.draw import CHUNK, mapper
from saywhy.toybox.recipes.language_data import SceneLanguage, assemble, scene_language
from saywhy.toybox.recipes.vqa import frozen_features
from saywhy.toybox.scenes.proposals import COUNT, proposals

REGION_CHANNELS = CHANNELS + 4
"""Channels of a region: the mean features in its box, and the box."""

Importances = Float[Tensor, "scene type region"]


@dataclass(frozen=True)
class RegionData:
    """Scenes as regions, with one question of every type, and the importance of every region for each.

    Attributes:
        regions: [scene, region, channel]: means of the frozen features of ``toybox:vqa`` in every box, then its left,
            top, right and bottom as shares of the side. No region is zero throughout.
        boxes: [scene, region, 4]: left, top, right and bottom in pixels; see
            :func:`saywhy.toybox.scenes.proposals.proposals`.
        words, answers: the questions and their answers, as of
            :meth:`saywhy.toybox.recipes.language_data.LanguageData.questions`.
        scores: [scene, type, answer] the VQA accuracy of each of ``ANSWERS`` by those of simulated annotators.
        human_importance: by the mean of people's attention maps, from 0 to 1; NaN where a scene has no question. See
            :func:`saywhy.alignment.importance.box_importance`.
        evidence_importance: the same by the true evidence of the question: importances without noise.
    """

    regions: Float[Tensor, "scene region channel"]
    boxes: Int[Tensor, "scene region 4"]
    words: Int[Tensor, "scene type word"]
    answers: Int[Tensor, "scene type"]
    scores: Float[Tensor, "scene type answer"]
    human_importance: Importances
    evidence_importance: Importances

    def __len__(self) -> int:
        return len(self.regions)


def region_data(
    split: str,
    count: int,
    known: Vocabulary | None = None,
    regions: int = COUNT,
    people: int = 1,
    processes: int = 0,
    report: Callable[[int], object] | None = None,
) -> RegionData:
    """Draw the first ``count`` scenes of a split, in this process or in a pool; the result is the same.

    Args:
        split: of Toybox.
        count: the number of scenes.
        known: the vocabulary; None is that of ``toybox:vqa``.
        regions: region proposals per scene, from 16 to 36.
        people: attention maps per question; VQA-HAT has one in training and three in validation.
        processes: 0 draws in this process.
        report: called with the number of scenes in every finished chunk.

    Raises:
        InputError: there is no such split, or not so many region proposals.

    >>> data = region_data("priors-val", 2)
    >>> data.regions.shape, data.human_importance.shape
    (torch.Size([2, 24, 52]), torch.Size([2, 10, 24]))
    """
    model = load("toybox:vqa")
    if known is None:
        known = model.texts["question"].__self__  # type: ignore[attr-defined]
    language: list[SceneLanguage] = []
    parts: list[tuple[np.ndarray, ...]] = []
    with mapper(processes) as mapped:
        chunks = mapped(partial(_chunk, split, count, regions, people), range(0, count, CHUNK))
        for of_language, *of_regions in chunks:
            language.append(of_language)
            parts.append(tuple(of_regions))
            if report is not None:
                report(len(of_regions[0]))
    drawn = assemble(language)
    boxes, human, evidence = (torch.from_numpy(np.concatenate(part)) for part in zip(*parts, strict=True))
    words, answers = drawn.questions(known)
    return RegionData(
        region_features(model.module.trunk, drawn.images, boxes),  # type: ignore[arg-type]
        boxes,
        words,
        answers,
        (3 * drawn.shares()).clamp_max(1),  # min(1, 0.3 n) for n of ten annotators
        human,
        evidence,
    )


def region_features(trunk: ToyboxTrunk, images: Tensor, boxes: Int[Tensor, "scene region 4"]) -> Tensor:
    """Return the features of regions: means in the boxes, and the boxes as shares of the side.

    Args:
        trunk: its weights are not changed, and have no gradient through the result.
        images: uint8 [scene, 3, height, width], square.
        boxes: left, top, right and bottom in pixels.
    """
    size, parts = images.shape[-1], []
    with torch.inference_mode():
        for chunk, placed in zip(images.split(100), boxes.split(100), strict=True):
            features = trunk.features(frozen_features(trunk, chunk).float())
            shares = placed.float() / size
            parts.append(torch.cat([box_means(features, shares), shares], 2))
    return torch.cat(parts).clone()


def box_means(
    features: Float[Tensor, "scene channel row column"], boxes: Float[Tensor, "scene region 4"]
) -> Float[Tensor, "scene region channel"]:
    """Return the means of feature maps in boxes, in which a cell counts by the part of it that a box covers.

    It is RoI average pooling to one bin, exact where RoIAlign samples points.

    Args:
        features: feature maps of whole images.
        boxes: left, top, right and bottom as shares of the image's sides, right above left and bottom above top.

    >>> box_means(torch.tensor([[[[1.0, 3.0]]]]), torch.tensor([[[0.25, 0.0, 1.0, 1.0]]]))
    tensor([[[2.3333]]])
    """
    rows, columns = features.shape[2:]
    left, top, right, bottom = boxes.unsqueeze(3).unbind(2)  # each [scene, region, 1]
    down, across = _cover(top * rows, bottom * rows, rows), _cover(left * columns, right * columns, columns)
    of_rows = torch.einsum("scyx,srx->srcy", features, across)
    return torch.einsum("srcy,sry->src", of_rows, down)


def _cover(low: Tensor, high: Tensor, cells: int) -> Float[Tensor, "scene region cell"]:
    """Return the share of an interval that lies in each cell."""
    edges = torch.arange(cells, dtype=low.dtype, device=low.device)
    return (torch.minimum(high, edges + 1) - torch.maximum(low, edges)).clamp_min(0) / (high - low)


def _chunk(
    split: str, count: int, regions: int, people: int, start: int
) -> tuple[SceneLanguage, np.ndarray, np.ndarray, np.ndarray]:
    """Return language, boxes and importances of at most ``CHUNK`` scenes from ``start``."""
    scenes = [scene(split, index) for index in range(start, min(start + CHUNK, count))]
    boxes = np.stack([proposals(drawn, regions) for drawn in scenes])
    human = np.full((len(scenes), len(TYPES), regions), np.nan, np.float32)
    evidence = human.copy()
    asked = [questions(drawn) for drawn in scenes]
    for i, (drawn, found) in enumerate(zip(scenes, asked, strict=True)):
        if found:
            types = [list(TYPES).index(question.type) for question in found]
            placed = torch.from_numpy(boxes[i]).expand(len(found), -1, -1)
            attention = np.stack([human_attention(drawn, question, people).mean(0) for question in found])
            masks = np.stack([question.evidence for question in found])
            human[i, types] = box_importance(torch.from_numpy(attention), placed).numpy()
            evidence[i, types] = box_importance(torch.from_numpy(masks).float(), placed).numpy()
    return scene_language(scenes, asked), boxes, human, evidence
