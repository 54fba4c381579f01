"""Training data for VQA and captioning: scenes of Toybox with questions and captions, as tensors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from rich.progress import Progress
from torch import Tensor

from saywhy.tasks.vocabulary import Vocabulary
from saywhy.toybox import COLOURS, KINDS, Scene, scene
from saywhy.toybox.language import ANSWERS, TYPES, SceneQuestion, annotations, captions, questions
from saywhy.toybox.recipes.draw import CHUNK, cores, mapper

QuestionText = tuple[str, str, str]
"""Type, text and answer of a question."""

SceneLanguage = tuple[np.ndarray, list[list[QuestionText]], list[list[str]], list[list[tuple[str, ...]]], np.ndarray]
"""The attributes of :class:`LanguageData`, in its order, of some scenes."""


@dataclass(frozen=True)
class LanguageData:
    """Scenes with questions and captions.

    Attributes:
        images: uint8 [scene, 3, height, width].
        question_texts: the questions of every scene.
        caption_texts: the captions of every scene.
        human_answers: the answers of simulated annotators to every question.
        cells: uint8 [scene, 6, 16, 16]. For every cell of a grid: the kind and the colour of its object (by ``KINDS``
            and ``COLOURS``; their number where there is none), and 1 where it holds the centre of an object. In that
            cell also: the offset of the centre to the right and down (in 256ths of a cell), and the side of a square of
            the object's area (in 256ths of the image's side).
    """

    images: UInt8[Tensor, "scene 3 height width"]
    question_texts: list[list[QuestionText]]
    caption_texts: list[list[str]]
    human_answers: list[list[tuple[str, ...]]]
    cells: UInt8[Tensor, "scene 6 row column"]

    def questions(self, known: Vocabulary) -> tuple[Int[Tensor, "scene type word"], Int[Tensor, "scene type"]]:
        """Return the question of every type and its answer (index in ``ANSWERS``); -1 where a scene has none.

        An answer outside ``ANSWERS`` (an unseen kind) has the index ``len(ANSWERS)``.
        """
        types = {name: number for number, name in enumerate(TYPES)}
        rows = [
            (i, types[kind], known.encode(text), answer)
            for i, of_scene in enumerate(self.question_texts)
            for kind, text, answer in of_scene
        ]
        words = torch.zeros(len(self.question_texts), len(types), max(len(row[2]) for row in rows), dtype=torch.long)
        answers = torch.full((len(self.question_texts), len(types)), -1)
        for i, kind, text, answer in rows:
            words[i, kind, : len(text)] = text
            answers[i, kind] = ANSWERS.index(answer) if answer in ANSWERS else len(ANSWERS)
        return words, answers

    def shares(self) -> Float[Tensor, "scene type answer"]:
        """Return the share of annotators who give each of ``ANSWERS``, for the question of every type."""
        types = {name: number for number, name in enumerate(TYPES)}
        found = torch.zeros(len(self.question_texts), len(types), len(ANSWERS))
        for i, of_scene in enumerate(zip(self.question_texts, self.human_answers, strict=True)):
            for (kind, _, _), answers in zip(*of_scene, strict=True):
                for answer in filter(ANSWERS.__contains__, answers):
                    found[i, types[kind], ANSWERS.index(answer)] += 1 / len(answers)
        return found

    def captions(self, known: Vocabulary) -> Int[Tensor, "scene caption word"]:
        """Return the captions, padded with 0."""
        flat = known.batch([text for of_scene in self.caption_texts for text in of_scene])
        return flat.unflatten(0, (len(self.caption_texts), -1))


def language_data(
    split: str, count: int, size: int = 128, processes: int = 0, report: Callable[[int], object] | None = None
) -> LanguageData:
    """Draw the first ``count`` scenes of a split, in this process or in a pool; the result is the same.

    >>> data = language_data("talk-val", 2, size=32)
    >>> data.images.shape, len(data.question_texts), data.caption_texts[0][4]
    (torch.Size([2, 3, 32, 32]), 2, 'a red bus and a white rabbit')
    """
    parts: list[SceneLanguage] = []
    with mapper(processes) as mapped:
        for part in mapped(partial(_chunk, split, count, size), range(0, count, CHUNK)):
            parts.append(part)
            if report is not None:
                report(len(part[0]))
    return assemble(parts)


def assemble(parts: Sequence[SceneLanguage]) -> LanguageData:
    """Return the data of all chunks."""
    images, question_texts, caption_texts, human_answers, cells = zip(*parts, strict=True)
    return LanguageData(
        torch.from_numpy(np.concatenate(images)),
        list(chain.from_iterable(question_texts)),
        list(chain.from_iterable(caption_texts)),
        list(chain.from_iterable(human_answers)),
        torch.from_numpy(np.concatenate(cells)),
    )


def draw_language_data(split: str, count: int, progress: Progress) -> LanguageData:
    """Draw :func:`language_data` on all cores, with a progress bar."""
    bar = progress.add_task(f"drawing {split}", total=count, loss="")
    return language_data(split, count, processes=cores(), report=lambda done: progress.advance(bar, done))


def _chunk(split: str, count: int, size: int, start: int) -> SceneLanguage:
    """Return the data of at most ``CHUNK`` scenes from ``start``."""
    scenes = [scene(split, index, size) for index in range(start, min(start + CHUNK, count))]
    return scene_language(scenes, [questions(drawn) for drawn in scenes])


def scene_language(scenes: Sequence[Scene], asked: Sequence[Sequence[SceneQuestion]]) -> SceneLanguage:
    """Return the data of scenes and their questions, as arrays and lists that a process can pass to another."""
    images = np.ascontiguousarray(np.stack([drawn.image for drawn in scenes]).transpose(0, 3, 1, 2))
    question_texts = [[(q.type, q.text, q.answer) for q in found] for found in asked]
    human_answers = [[annotations(drawn, q) for q in found] for drawn, found in zip(scenes, asked, strict=True)]
    caption_texts = [[caption.text for caption in captions(drawn)] for drawn in scenes]
    return images, question_texts, caption_texts, human_answers, np.stack([cells_of(drawn) for drawn in scenes])


def cells_of(drawn: Scene, side: int = 16) -> UInt8[np.ndarray, "6 row column"]:
    """Return kind, colour, centres and sizes of a scene's objects, cell by cell; see :class:`LanguageData`.

    A cell belongs to the object that covers most of it, if that is at least three tenths of the cell.

    >>> int(cells_of(scene("talk-test", 1))[2].sum())  # the centres of four objects
    4
    """
    size = len(drawn.image)
    colours = tuple(COLOURS)
    found = np.zeros((6, side, side), np.uint8)
    found[0], found[1] = len(KINDS), len(colours)
    most = np.full((side, side), 0.3)
    edges = np.arange(side) * size // side
    area = np.outer(*[np.diff([*edges, size])] * 2)
    for thing in drawn.objects:
        share = np.add.reduceat(np.add.reduceat(thing.mask.astype(int), edges, 0), edges, 1) / area
        here = share > most
        kind = KINDS.index(thing.kind) if thing.kind in KINDS else len(KINDS)  # an unseen kind
        found[0][here], found[1][here] = kind, colours.index(thing.colour)
        most = np.maximum(most, share)
        (x, y), square = (c * side / size for c in thing.centre), 256 * thing.area**0.5 / size
        found[2:, int(y), int(x)] = 1, 256 * (x % 1), 256 * (y % 1), square
    return found
