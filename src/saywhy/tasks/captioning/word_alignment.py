r"""Words of captions as items of :func:`saywhy.alignment.align.align`: HINT and its controls for captioning.

HINT (Selvaraju et al., 2019) for captioning: an item is a word of a caption that names something visible, for which
people say where it is. The importance of region r to the word t is that of the word's logit, given the words before it
(teacher forcing), :math:`\alpha^t_r = \sum_d \partial o_t / \partial V_{r,d}`, through all steps up to t; the ranking
loss is that of its image's regions. The loss of the task is the cross entropy of the whole caption.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn import functional as F

from saywhy.alignment.align import RegionOutput, RegionTask
from saywhy.errors import InputError
from saywhy.tasks.generation.networks import CaptionOutput
from saywhy.tasks.regions import Regions, as_feature_maps
from saywhy.tasks.vocabulary import Sentences
from saywhy.validation import whole_number


@dataclass(frozen=True)
class CaptionItems:
    """Words of captions, one item each. Words that name nothing visible ("a", "and") are no items, or have no hint.

    Attributes:
        images: [item] the image of the word's caption.
        captions: [item, word] the caption, without START and END, padded with 0.
        places: [item] the index of the word in its caption.

    Raises:
        InputError: the attributes disagree in their number of items, or a place is none of its caption's words.

    >>> CaptionItems(torch.tensor([0, 0]), torch.tensor([[4, 5, 6]] * 2), torch.tensor([0, 2])).words
    tensor([4, 6])
    """

    images: Int[Tensor, " item"]
    captions: Sentences
    places: Int[Tensor, " item"]

    def __post_init__(self) -> None:
        shapes = tuple(self.images.shape), tuple(self.captions.shape), tuple(self.places.shape)
        if self.captions.ndim != 2 or not shapes[0] == shapes[2] == shapes[1][:1]:
            raise InputError(
                "expected images [item], captions [item, word] and places [item] of the same number of items, got the "
                f"shapes {shapes[0]}, {shapes[1]} and {shapes[2]}. Repeat a caption for each of its words."
            )
        lengths = (self.captions != 0).sum(1)
        wrong = ((self.places < 0) | (self.places >= lengths)).nonzero().flatten()
        if len(wrong):
            item = int(wrong[0])
            raise InputError(
                f"item {item} is the word {int(self.places[item])} of a caption of {int(lengths[item])} words. Places "
                "count from 0, and neither END nor padding is an item."
            )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, items: Tensor | slice) -> "CaptionItems":
        """Return some of the items."""
        return CaptionItems(self.images[items], self.captions[items], self.places[items])

    @property
    def words(self) -> Int[Tensor, " item"]:
        """The number of every word in the vocabulary."""
        return self.captions.gather(1, self.places.unsqueeze(1)).squeeze(1)


def word_output(network: nn.Module, regions: Regions, words: CaptionItems) -> RegionOutput:
    """Return what a captioner gives for words, each given its image and the words before it.

    Args:
        network: takes features [item, channel, region, 1] and captions, and returns a
            :class:`~saywhy.tasks.generation.networks.CaptionOutput`.
        regions: [item, region, channel] of the image of every item; for importances they require a gradient.
        words: the items.

    Returns:
        The logits of all words of the vocabulary in place of each item's word, the cross entropy of the captions, and
        the attention in the step of the word; None without attention.

    Raises:
        InputError: there are not as many images of regions as items.
    """
    features = as_feature_maps(regions)
    if len(regions) != len(words):
        raise InputError(f"expected the regions of {len(words)} items, got {len(regions)}. Give regions[words.images].")
    longest = int((words.captions != 0).sum(1).max()) if len(words) else 0
    output: CaptionOutput = network(features, words.captions[:, :longest])
    rows, places = torch.arange(len(words), device=output.logits.device), words.places.to(output.logits.device)
    attention = None if output.attention is None else output.attention[rows, places].flatten(1)
    return RegionOutput(output.logits[rows, places], output.cross_entropy(), attention)


def word_task(regions: Regions, words: CaptionItems, vocabulary: int) -> RegionTask:
    """Return the items that :func:`saywhy.alignment.align.align` trains a captioner on.

    Args:
        regions: [image, region, channel].
        words: the items, each with its row of hints; a row of NaN is a word without a hint.
        vocabulary: the number of words that the network knows.

    Raises:
        InputError: the regions are not of three axes, or an image or a word number does not exist.

    >>> words = CaptionItems(torch.tensor([0, 1]), torch.tensor([[4, 5], [6, 0]]), torch.tensor([1, 0]))
    >>> task = word_task(torch.rand(2, 9, 6), words, vocabulary=8)
    >>> task.scores.argmax(1).tolist(), task.activation
    ([5, 6], 'softmax')

    Differs from the paper: it does not say how the losses of a caption's words are combined. Here words are items, so
    that a caption counts as often as it has hinted words.
    """
    as_feature_maps(regions)
    vocabulary = whole_number("vocabulary", vocabulary, 1)
    if len(words) and not 0 <= int(words.images.min()) <= int(words.images.max()) < len(regions):
        raise InputError(
            f"the items are of images {int(words.images.min())} to {int(words.images.max())}, but there are regions of "
            f"{len(regions)} images."
        )
    if len(words) and int(words.captions.max()) >= vocabulary:
        raise InputError(
            f"the captions have the word number {int(words.captions.max())}, but the vocabulary has {vocabulary} "
            "words. Encode them with the vocabulary of the network."
        )

    def run(network: nn.Module, taken: Tensor, items: Int[Tensor, " batch"]) -> RegionOutput:
        return word_output(network, taken, words[items])

    scores = F.one_hot(words.words, vocabulary).to(regions.dtype)
    return RegionTask(regions, words.images, scores, run, activation="softmax")
