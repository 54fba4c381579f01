"""Scenes of Toybox with all that is asked and said of them, as tensors to train on."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from saywhy.data.toybox import scene
from saywhy.data.toybox.talk import ANSWERS, TYPES, captions, questions
from saywhy.tasks.vocabulary import Vocabulary
from saywhy.training.drawing import CHUNK, mapper

Asked = tuple[str, str, str]
"""Type, text and answer of a question."""


@dataclass(frozen=True)
class Talk:
    """Scenes in words.

    Attributes:
        images: uint8 [scene, 3, height, width].
        asked: of every scene its questions.
        said: of every scene its captions.
    """

    images: UInt8[Tensor, "scene 3 height width"]
    asked: list[list[Asked]]
    said: list[list[str]]

    def questions(self, known: Vocabulary) -> tuple[Int[Tensor, "scene type word"], Int[Tensor, "scene type"]]:
        """The question of every type and its answer (by ``ANSWERS``); -1 where a scene has no such question."""
        types = {name: number for number, name in enumerate(TYPES)}
        rows = [
            (i, types[kind], known.encode(text), answer) for i, of in enumerate(self.asked) for kind, text, answer in of
        ]
        words = torch.zeros(len(self.asked), len(types), max(len(row[2]) for row in rows), dtype=torch.long)
        answers = torch.full((len(self.asked), len(types)), -1)
        for i, kind, text, answer in rows:
            words[i, kind, : len(text)] = text
            answers[i, kind] = ANSWERS.index(answer)
        return words, answers

    def captions(self, known: Vocabulary) -> Int[Tensor, "scene caption word"]:
        """The captions, filled up with 0."""
        flat = known.batch([text for of_scene in self.said for text in of_scene])
        return flat.unflatten(0, (len(self.said), -1))


def talk(
    split: str, count: int, size: int = 128, processes: int = 0, tell: Callable[[int], object] | None = None
) -> Talk:
    """The first ``count`` scenes of a split, drawn here or in ``processes`` of their own; the result is the same.

    >>> some = talk("talk-val", 2, size=32)
    >>> some.images.shape, len(some.asked), some.said[0][4]
    (torch.Size([2, 3, 32, 32]), 2, 'a red bus and a white rabbit')
    """
    images: list[Tensor] = []
    asked: list[list[Asked]] = []
    said: list[list[str]] = []
    with mapper(processes) as mapped:
        for pictures, words, sentences in mapped(partial(_chunk, split, count, size), range(0, count, CHUNK)):
            images.append(torch.from_numpy(pictures))
            asked += words
            said += sentences
            if tell is not None:
                tell(len(pictures))
    return Talk(torch.cat(images), asked, said)


def _chunk(split: str, count: int, size: int, start: int) -> tuple[np.ndarray, list[list[Asked]], list[list[str]]]:
    """Scenes from ``start``, at most ``CHUNK``."""
    scenes = [scene(split, index, size) for index in range(start, min(start + CHUNK, count))]
    images = np.ascontiguousarray(np.stack([drawn.image for drawn in scenes]).transpose(0, 3, 1, 2))
    asked = [[(q.type, q.text, q.answer) for q in questions(drawn)] for drawn in scenes]
    return images, asked, [[caption.text for caption in captions(drawn)] for drawn in scenes]
