"""Scenes of Toybox with all that is asked and said of them, as tensors to train on."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from rich.progress import Progress
from torch import Tensor

from saywhy.tasks.vocabulary import Vocabulary
from saywhy.toybox import COLOURS, KINDS, Scene, scene
from saywhy.toybox.language import ANSWERS, TYPES, annotations, captions, questions
from saywhy.toybox.recipes.draw import CHUNK, cores, mapper

Asked = tuple[str, str, str]
"""Type, text and answer of a question."""


@dataclass(frozen=True)
class Talk:
    """Scenes in words.

    Attributes:
        images: uint8 [scene, 3, height, width].
        asked: of every scene its questions.
        said: of every scene its captions.
        people: of every question what several simulated people answer.
        cells: uint8 [scene, 6, 16, 16]: of every cell of a grid the kind and the colour of what is there (by ``KINDS``
            and ``COLOURS``; their number where nothing is), and 1 where the middle of a thing is; there also how far
            right and down in the cell it is (of 256), and the side of a square as large as the thing (in 256ths of the
            image's).
    """

    images: UInt8[Tensor, "scene 3 height width"]
    asked: list[list[Asked]]
    said: list[list[str]]
    people: list[list[tuple[str, ...]]]
    cells: UInt8[Tensor, "scene 6 row column"]

    def questions(self, known: Vocabulary) -> tuple[Int[Tensor, "scene type word"], Int[Tensor, "scene type"]]:
        """The question of every type and its answer (by ``ANSWERS``); -1 where a scene has no such question.

        An answer that is none of them, as that of an unseen kind is, has their number.
        """
        types = {name: number for number, name in enumerate(TYPES)}
        rows = [
            (i, types[kind], known.encode(text), answer) for i, of in enumerate(self.asked) for kind, text, answer in of
        ]
        words = torch.zeros(len(self.asked), len(types), max(len(row[2]) for row in rows), dtype=torch.long)
        answers = torch.full((len(self.asked), len(types)), -1)
        for i, kind, text, answer in rows:
            words[i, kind, : len(text)] = text
            answers[i, kind] = ANSWERS.index(answer) if answer in ANSWERS else len(ANSWERS)
        return words, answers

    def shares(self) -> Float[Tensor, "scene type answer"]:
        """Of the question of every type the share of people who give each of ``ANSWERS``."""
        types = {name: number for number, name in enumerate(TYPES)}
        found = torch.zeros(len(self.asked), len(types), len(ANSWERS))
        for i, (asked, people) in enumerate(zip(self.asked, self.people, strict=True)):
            for (kind, _, _), answers in zip(asked, people, strict=True):
                for answer in filter(ANSWERS.__contains__, answers):
                    found[i, types[kind], ANSWERS.index(answer)] += 1 / len(answers)
        return found

    def captions(self, known: Vocabulary) -> Int[Tensor, "scene caption word"]:
        """The captions, filled up with 0."""
        flat = known.batch([text for of_scene in self.said for text in of_scene])
        return flat.unflatten(0, (len(self.said), -1))


def talk(
    split: str, count: int, size: int = 128, processes: int = 0, report: Callable[[int], object] | None = None
) -> Talk:
    """The first ``count`` scenes of a split, drawn here or in ``processes`` of their own; the result is the same.

    >>> some = talk("talk-val", 2, size=32)
    >>> some.images.shape, len(some.asked), some.said[0][4]
    (torch.Size([2, 3, 32, 32]), 2, 'a red bus and a white rabbit')
    """
    images: list[Tensor] = []
    asked: list[list[Asked]] = []
    said: list[list[str]] = []
    people: list[list[tuple[str, ...]]] = []
    cells: list[Tensor] = []
    with mapper(processes) as mapped:
        drawn = mapped(partial(_chunk, split, count, size), range(0, count, CHUNK))
        for pixels, words, sentences, answers, seen in drawn:
            images.append(torch.from_numpy(pixels))
            asked += words
            said += sentences
            people += answers
            cells.append(torch.from_numpy(seen))
            if report is not None:
                report(len(pixels))
    return Talk(torch.cat(images), asked, said, people, torch.cat(cells))


def followed(split: str, count: int, progress: Progress) -> Talk:
    """The same, drawn on all cores, with a bar."""
    bar = progress.add_task(f"drawing {split}", total=count, loss="")
    return talk(split, count, processes=cores(), report=lambda done: progress.advance(bar, done))


def _chunk(
    split: str, count: int, size: int, start: int
) -> tuple[np.ndarray, list[list[Asked]], list[list[str]], list[list[tuple[str, ...]]], np.ndarray]:
    """Scenes from ``start``, at most ``CHUNK``."""
    scenes = [scene(split, index, size) for index in range(start, min(start + CHUNK, count))]
    images = np.ascontiguousarray(np.stack([drawn.image for drawn in scenes]).transpose(0, 3, 1, 2))
    quizzes = [questions(drawn) for drawn in scenes]
    asked = [[(q.type, q.text, q.answer) for q in quiz] for quiz in quizzes]
    people = [[annotations(drawn, q) for q in quiz] for drawn, quiz in zip(scenes, quizzes, strict=True)]
    said = [[caption.text for caption in captions(drawn)] for drawn in scenes]
    return images, asked, said, people, np.stack([cells_of(drawn) for drawn in scenes])


def cells_of(drawn: Scene, side: int = 16) -> UInt8[np.ndarray, "6 row column"]:
    """Kind, colour, middles and sizes of a scene's things, cell by cell; see :class:`Talk`.

    A cell belongs to the thing that covers most of it, if that is at least three tenths of it.

    >>> int(cells_of(scene("talk-test", 1))[2].sum())  # the middles of four objects
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
