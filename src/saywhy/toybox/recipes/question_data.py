"""Training data for question generation: scenes of Toybox, and what several simulated people ask about them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import chain

import numpy as np
import torch
from jaxtyping import Int, UInt8
from rich.progress import Progress
from torch import Tensor

from saywhy.tasks.vocabulary import Vocabulary
from saywhy.toybox import scene
from saywhy.toybox.language import asked
from saywhy.toybox.recipes.draw import CHUNK, cores, mapper

PEOPLE = 8
"""Questions about a training scene."""


@dataclass(frozen=True)
class QuestionData:
    """Scenes with questions.

    Attributes:
        images: uint8 [scene, 3, height, width].
        texts: the questions about every scene, as many about each.
    """

    images: UInt8[Tensor, "scene 3 height width"]
    texts: list[list[str]]

    def words(self, known: Vocabulary) -> Int[Tensor, "scene question word"]:
        """Return the questions as word numbers, padded with 0."""
        flat = known.batch([text for of_scene in self.texts for text in of_scene])
        return flat.unflatten(0, (len(self.texts), -1))


def question_data(
    split: str,
    count: int,
    people: int = PEOPLE,
    size: int = 128,
    processes: int = 0,
    report: Callable[[int], object] | None = None,
) -> QuestionData:
    """Draw the first ``count`` scenes of a split, in this process or in a pool; the result is the same.

    >>> data = question_data("talk-val", 2, people=3, size=32)
    >>> data.images.shape, [len(of_scene) for of_scene in data.texts]
    (torch.Size([2, 3, 32, 32]), [3, 3])
    """
    images: list[np.ndarray] = []
    texts: list[list[list[str]]] = []
    with mapper(processes) as mapped:
        for part, questions in mapped(partial(_chunk, split, count, people, size), range(0, count, CHUNK)):
            images.append(part)
            texts.append(questions)
            if report is not None:
                report(len(part))
    return QuestionData(torch.from_numpy(np.concatenate(images)), list(chain.from_iterable(texts)))


def draw_question_data(split: str, count: int, progress: Progress, people: int = PEOPLE) -> QuestionData:
    """Draw :func:`question_data` on all cores, with a progress bar."""
    bar = progress.add_task(f"drawing {split}", total=count, loss="")
    return question_data(split, count, people, processes=cores(), report=lambda done: progress.advance(bar, done))


def _chunk(split: str, count: int, people: int, size: int, start: int) -> tuple[np.ndarray, list[list[str]]]:
    """Return images and questions of at most ``CHUNK`` scenes from ``start``."""
    scenes = [scene(split, index, size) for index in range(start, min(start + CHUNK, count))]
    images = np.ascontiguousarray(np.stack([drawn.image for drawn in scenes]).transpose(0, 3, 1, 2))
    return images, [[question.text for question in asked(drawn, people)] for drawn in scenes]
