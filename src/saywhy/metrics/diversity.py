"""Diversity of several captions of one image, and the quality of the best of them.

Captions are texts; words are separated by spaces.
"""

import reprlib
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Literal

import torch
from torch import Tensor

from saywhy.errors import InputError, SaywhyError
from saywhy.metrics.correlation import rank_correlation
from saywhy.metrics.human_attention import on_grid
from saywhy.metrics.registry import dataset_metric
from saywhy.shapes import MapStack, Scores
from saywhy.validation import PositiveInt, validated, whole_number

Lists = Sequence[Sequence[str]]
"""The captions of every image, the likeliest first."""

Quality = Callable[[str, Sequence[str]], float]
"""The quality of a caption, given reference captions; higher is better."""


@dataset_metric(
    "distinct-n: the number of different n-grams, divided by the number of words",
    better="higher",
    range="0 to 1",
    paper="Li et al., 2016",
    order=210,
)
@validated()
def distinct(lists: Lists, n: PositiveInt, pooled: Literal["image", "corpus"] = "image") -> float:
    """distinct-n (Li et al., 2016): the number of different n-grams, divided by the number of words.

    Args:
        lists: the captions of every image.
        n: the number of words of an n-gram.
        pooled: ``"image"`` counts the n-grams of an image's captions together and takes the mean over images;
            ``"corpus"`` counts those of all images together, which gives smaller values for more images. The paper of
            Diverse Beam Search does not say which; its values above 1 are on another scale.

    Returns:
        A value up to 1. It is 1 if every word begins an n-gram of its own, which for n above 1 the last words of a
        caption cannot. A caption that occurs k times counts 1 / k.

    Raises:
        InputError: there are no captions, or n is no whole number of at least 1.

    >>> distinct([["a red cat", "a red dog"]], 1), round(distinct([["a red cat", "a red dog"]], 2), 4)
    (0.6666666666666666, 0.5)
    """
    check_lists(lists)
    pools = [list(one) for one in lists] if pooled == "image" else [[text for one in lists for text in one]]
    shares = []
    for texts in pools:
        words = [text.split() for text in texts]
        grams = {tuple(of[i : i + n]) for of in words for i in range(len(of) - n + 1)}
        shares.append(len(grams) / max(1, sum(map(len, words))))
    return sum(shares) / len(shares)


@dataset_metric(
    "share of captions that repeat an earlier one",
    better="lower",
    range="0 to 1",
    paper="ours",
    order=220,
)
def repeated(lists: Lists) -> float:
    """Return the share of captions that repeat an earlier caption of the same image, the mean over images.

    >>> repeated([["a cat", "a cat", "a dog", "a cat"]])
    0.5
    """
    check_lists(lists)
    return sum(1 - len(set(one)) / len(one) for one in lists) / len(lists)


@dataset_metric(
    "similarity of the captions of an image (BLEU over pairs)",
    better="lower",
    range="0 to 1",
    paper="ours",
    order=230,
)
def similarity(lists: Lists, quality: Quality | None = None) -> float:
    """Return the similarity of the captions of an image, the mean over pairs and over images.

    Args:
        lists: the captions of every image, at least two each.
        quality: the similarity of one caption to others, applied in both directions; None is :func:`bleu`.

    >>> similarity([["a red cat sits", "a red cat sits"]])
    1.0
    """
    check_lists(lists, least=2)
    score = quality or bleu
    means = []
    for one in lists:
        pairs = list(combinations(one, 2))
        means.append(sum(score(a, [b]) + score(b, [a]) for a, b in pairs) / (2 * len(pairs)))
    return sum(means) / len(means)


@dataset_metric(
    "Oracle@k: quality (BLEU) of the best of k captions",
    better="higher",
    range="0 to 1",
    paper="common",
    order=240,
)
def oracle(lists: Lists, people: Lists, k: int, quality: Quality | None = None) -> float:
    """Oracle@k: the quality of the best of the first ``k`` captions of every image, the mean over images.

    It is the upper bound for any rule that selects one of the ``k`` captions.

    Args:
        lists: the captions of every image, the likeliest first.
        people: the reference captions of every image, written by people.
        k: the number of captions.
        quality: see :data:`Quality`; None is :func:`bleu`.

    Raises:
        InputError: an image has no reference captions, or k is no whole number of at least 1.

    >>> oracle([["a dog", "a red cat sits down"]], [["a red cat sits down"]], k=1) < 0.5
    True
    >>> oracle([["a dog", "a red cat sits down"]], [["a red cat sits down"]], k=2)
    1.0
    """
    check_lists(lists)
    check_lists(people)
    if len(lists) != len(people):
        raise InputError(f"expected reference captions for each of {len(lists)} images, got {len(people)}.")
    k = whole_number("k", k, 1)
    score = quality or bleu
    best = [max(score(text, theirs) for text in one[:k]) for one, theirs in zip(lists, people, strict=True)]
    return sum(best) / len(best)


@dataset_metric(
    "BLEU-4 of one caption",
    better="higher",
    range="0 to 1",
    paper="Papineni et al., 2002",
    order=250,
)
def bleu(text: str, people: Sequence[str]) -> float:
    """BLEU-4 of one caption (Papineni et al., 2002), from 0 to 1; the package sacrebleu computes it.

    Counts of n-grams with n of 2 and more are smoothed by adding 1 (Lin and Och, 2004), because a caption often has no
    4-gram of the references. In a caption of fewer than four words, n-grams up to its length are counted.

    Raises:
        InputError: there are no reference captions, or a text is given in place of a list of texts.

    >>> bleu("a red cat sits down", ["a red cat sits down", "a cat"])
    1.0
    """
    try:
        from sacrebleu.metrics import BLEU
    except ImportError as error:
        raise SaywhyError("BLEU needs the package sacrebleu: pip install 'saywhy[metrics]'") from error
    check_lists([people])
    longest = min(4, max(1, len(text.split())))
    # Effective order changes nothing here, because no order is longer than the caption; without it sacrebleu warns.
    score = BLEU(smooth_method="add-k", smooth_value=1, max_ngram_order=longest, tokenize="none", effective_order=True)
    return min(1.0, float(score.sentence_score(text, list(people)).score) / 100)


@dataset_metric(
    "distance of several maps of an image: 1 less their rank correlation",
    better="higher is more different",
    range="0 to 2",
    paper="ours",
    order=260,
)
def map_distance(maps: MapStack) -> Scores:
    """Return the mean distance of several maps of an image: 1 less the rank correlation on 14 × 14 cells, over pairs.

    Args:
        maps: [batch, target, height, width], at least two targets.

    Returns:
        [batch, 1] from 0 (same order of cells) to 2 (opposite order); unrelated maps have 1. A constant map, which has
        no order, has a distance of 1 to all others and 0 to itself.

    >>> map_distance(torch.stack([torch.eye(14), torch.eye(14)])[None]).item()
    0.0
    """
    if not isinstance(maps, Tensor) or maps.ndim != 4 or maps.shape[1] < 2:
        got = list(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
        raise InputError(f"maps must be a tensor [batch, target, height, width] with at least two targets, got {got}.")
    cells = on_grid(maps.detach().cpu().double()).flatten(2)
    pairs = [_distance(cells[:, a], cells[:, b]) for a, b in combinations(range(cells.shape[1]), 2)]
    return torch.stack(pairs, 1).mean(1, keepdim=True)


def _distance(one: Tensor, other: Tensor) -> Tensor:
    return (1 - rank_correlation(one, other)).masked_fill((one == other).all(1), 0.0)


def check_lists(lists: Lists, least: int = 1) -> None:
    """Check that there is a list of texts for every image.

    Raises:
        InputError: there are no images, or an image has fewer texts than ``least``.
    """
    nested = _is_list(lists) and bool(lists) and all(_is_list(one) and len(one) >= least for one in lists)
    if not nested or not all(isinstance(text, str) for one in lists for text in one):
        raise InputError(
            f"captions must be a list for every image, of at least {least} texts each, such as [['a cat', 'a dog']]; "
            f"got {reprlib.repr(lists)}."
        )


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)
