"""Which of two lists of texts people would prefer, by what several of them wrote themselves."""

from collections.abc import Sequence

from saywhy.errors import InputError
from saywhy.metrics.diversity import Lists, Quality, bleu, check_lists
from saywhy.metrics.registry import dataset_metric


def preference(
    first: Sequence[str], second: Sequence[str], people: Sequence[str], quality: Quality | None = None
) -> float:
    """Return whether most people prefer the first of two lists: 1, or 0 for the second, or 0.5 for a draw.

    A person prefers the list that has the text closest to what this person wrote. People whose two closest texts are
    equally close do not vote.

    Args:
        first, second: the texts of one image.
        people: what people wrote about it, one text each.
        quality: the closeness of a text to a list of one reference text; None is :func:`saywhy.metrics.diversity.bleu`.

    >>> preference(["is there a cat", "how many dogs"], ["is there a cat"], ["how many dogs", "is there a cat"])
    1.0
    """
    check_lists([first, second, people])
    score = quality or bleu
    votes = 0
    for person in people:
        ours, theirs = (max(score(text, [person]) for text in texts) for texts in (first, second))
        votes += (ours > theirs) - (ours < theirs)
    return 0.5 + 0.5 * ((votes > 0) - (votes < 0))


@dataset_metric(
    "human consensus, simulated: share of images where most references are closer to the first of two lists",
    better="higher",
    range="0 to 1; chance is 0.5",
    paper="ours",
    order=280,
)
def consensus(first: Lists, second: Lists, people: Lists, quality: Quality | None = None) -> float:
    """Return the share of images for which most people prefer the first list of texts; a draw is a half.

    It stands in for the forced choice of people in the paper of Diverse Beam Search (section 5.3), where five people
    choose between two lists of captions of an image; the majority counts. What people wrote decides here, so it
    measures what people would ask, and not what they would like to read.

    Args:
        first, second: the texts of every image.
        people: what people wrote about every image, one text each.
        quality: see :func:`preference`.

    Raises:
        InputError: there are no texts, or not as many images in each.

    >>> consensus([["is there a cat"], ["why"]], [["is there a dog"], ["why"]], [["is there a cat"], ["why"]])
    0.75
    """
    check_lists(first)
    if not len(first) == len(second) == len(people):
        raise InputError(
            f"expected lists of the same images, got {len(first)}, {len(second)} and {len(people)} of people."
        )
    votes = [preference(*one, quality) for one in zip(first, second, people, strict=True)]
    return sum(votes) / len(votes)
