"""The networks that speak about Toybox: they see through the classifier's eyes.

All that they know of an image goes through one layer, ``trunk.features``: the classifier's maps at several depths and
the colours themselves, mixed by two convolutions. A map of that layer is therefore a map of all the evidence.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from saywhy.shapes import FeatureMaps, Images
from saywhy.tasks.captioning.networks import TopDown
from saywhy.tasks.vocabulary import Sentences
from saywhy.tasks.vqa.networks import AttentionPooling, Glimpses, VQAHead
from saywhy.toybox import COLOURS, KINDS
from saywhy.toybox.models.classifier import WIDTHS, ToyboxClassifier
from saywhy.uncertainty.variance_head import VarianceHead

CHANNELS = 48
"""Of ``trunk.features``."""

GLIMPSES = 2
"""How often a question looks."""

THINGS = 6
"""So many things at most are related with each other; a scene has four at most."""

TRAITS = len(KINDS) + 1 + len(COLOURS) + 1
"""Probabilities of every kind and none, and of every colour and none."""

FAR = 4.0
"""Rows and columns of things are told on this scale, so that one that is a little beside another one is seen to be."""

Depths = Float[Tensor, "batch depths rows columns"]


class ToyboxTrunk(nn.Module):
    """Images [batch, 3, 128, 128] to features [batch, CHANNELS, 16, 16], an eighth of the image's size.

    ``depths`` is the classifier's part, which is not trained again: its last maps, those of its stages before, and the
    image's colours and places, all at 16 x 16. ``features`` mixes them.

    >>> ToyboxTrunk()(torch.zeros(1, 3, 128, 128)).shape
    torch.Size([1, 48, 16, 16])
    """

    def __init__(self, channels: int = CHANNELS) -> None:
        super().__init__()
        classifier = ToyboxClassifier()
        self.stem, self.blocks = classifier.stem, classifier.blocks
        _, low, middle, high = WIDTHS
        deep = high + middle + low + 3 + 2
        self.features = nn.Sequential(
            nn.BatchNorm2d(deep),
            nn.Conv2d(deep, 2 * channels, 1),
            nn.ReLU(),
            nn.Conv2d(2 * channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        )

    def depths(self, images: Images) -> Depths:
        """What the classifier sees at every depth, the colours, and the places."""
        low = self.blocks[0](self.stem(images))
        middle = self.blocks[1](low)
        high = self.blocks[3](self.blocks[2](middle))
        return torch.cat([high, middle, F.avg_pool2d(low, 2), F.avg_pool2d(images, 8), places(high)], 1)

    def forward(self, images: Images) -> FeatureMaps:
        """Features of images that are already normalised."""
        return self.features(self.depths(images))


class DetectedObjects(NamedTuple):
    """The things that are found in an image.

    Attributes:
        objects: [batch, thing, channel]: the features there, row and column, and the ``TRAITS``.
        present: [batch, thing] how sure it is that one is there, from 0 to 1.
        at: [batch, thing] the number of its place.
    """

    objects: Float[Tensor, "batch thing channel"]
    present: Float[Tensor, "batch thing"]
    at: Int[Tensor, "batch thing"]


class ObjectDetector(nn.Module):
    """The places where a thing has its middle, what the features say there, and its traits: its kind and its colour.

    A place is a middle as far as ``middle`` of its features says so (log-odds), if no neighbour says it louder; at most
    ``THINGS`` are taken. What is taken jumps when an image changes, as in every detector; how far it counts
    (``present``) does not. As in bottom-up attention (Anderson et al., 2018), things come with their traits.

    >>> found = ObjectDetector(48)(torch.rand(2, 48, 16, 16))
    >>> found.objects.shape, found.present.shape
    (torch.Size([2, 6, 82]), torch.Size([2, 6]))
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.middle = nn.Conv2d(channels, 1, 1)
        self.kind, self.colour = nn.Conv2d(channels, len(KINDS) + 1, 1), nn.Conv2d(channels, len(COLOURS) + 1, 1)

    def forward(self, features: FeatureMaps) -> DetectedObjects:
        """The things of every image."""
        middles = self.middle(features)
        loudest = middles == F.max_pool2d(middles, 3, 1, 1)
        present, at = (middles.sigmoid() * loudest).flatten(1).topk(THINGS, 1)
        kinds, colours = self.kind(features).softmax(1), self.colour(features).softmax(1)
        everything = torch.cat([features, FAR * places(features), kinds, colours], 1).flatten(2).mT
        return DetectedObjects(everything.gather(1, at[:, :, None].expand(-1, -1, everything.shape[2])), present, at)


class WordGrounding(nn.Module):
    """To every thing the words that mean it: so it knows whether it is the first or the second spoken of, or none.

    ``c_i = sum over words of sigmoid(o_i . W e_w) h_w``: a thing is compared with the word itself (e), and told what
    the word does in the sentence (h), as in co-attention (Lu et al., 2016).
    """

    def __init__(self, size: int, embedded: int, hidden: int, told: int) -> None:
        super().__init__()
        self.thing, self.word = nn.Linear(size, embedded), nn.Linear(embedded, embedded)
        self.told = nn.Linear(hidden, told)

    def forward(
        self,
        objects: Float[Tensor, "batch thing channel"],
        words: Float[Tensor, "batch word embedded"],
        heard: Float[Tensor, "batch word hidden"],
        spoken: Bool[Tensor, "batch word"],
    ) -> Float[Tensor, "batch thing told"]:
        """What every thing is told."""
        return (self.alike(objects, words).sigmoid() * spoken.unsqueeze(1)) @ self.told(heard)

    def alike(
        self, objects: Float[Tensor, "batch thing channel"], words: Float[Tensor, "batch word embedded"]
    ) -> Float[Tensor, "batch thing word"]:
        """How much a word means a thing, as log-odds."""
        return self.thing(objects) @ self.word(words).mT


class Relations(nn.Module):
    """What a question asks of things one by one and two by two: a relation network (Santoro et al., 2017, equation 1).

    ``sum over i of p_i h(o_i, q)`` and ``sum over i, j of p_i p_j g(o_i, o_j, q)``, p being how sure a thing is there.
    The first layer of g is a sum of linear ones of each thing, so that it is computed a thing and not a pair, and of
    the product of their traits (are they alike?).
    """

    def __init__(self, size: int, question: int, hidden: int) -> None:
        super().__init__()
        self.one, self.left, self.right = (nn.Linear(size, hidden, bias=False) for _ in range(3))
        self.alike = nn.Linear(TRAITS, hidden, bias=False)
        self.asked = nn.Linear(question, 4 * hidden)
        self.alone, self.pair = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)

    def forward(
        self,
        objects: Float[Tensor, "batch thing channel"],
        traits: Float[Tensor, "batch thing trait"],
        present: Float[Tensor, "batch thing"],
        question: Float[Tensor, "batch state"],
    ) -> Float[Tensor, "batch related"]:
        """Both sums, one behind the other: [batch, 2 * hidden]."""
        one, two, turn_one, turn_two = self.asked(question).unsqueeze(1).chunk(4, 2)
        alone = (self.alone((self.one(objects) + one).relu()) * (1 + turn_one)).relu()
        pairs = self.left(objects).unsqueeze(1) + self.right(objects).unsqueeze(2) + two.unsqueeze(1)
        pairs = pairs + self.alike(traits.unsqueeze(1) * traits.unsqueeze(2))
        pairs = (self.pair(pairs.relu()) * (1 + turn_two.unsqueeze(1))).relu()
        both = present.unsqueeze(1) * present.unsqueeze(2)
        return torch.cat([torch.einsum("bt,bth->bh", present, alone), torch.einsum("btu,btuh->bh", both, pairs)], 1)


class ToyboxVQAHead(VQAHead):
    """Answers to questions about features: looked at with glimpses, and related thing by thing.

    A glimpse is a softmax over places of ``v_p . W q``. With glimpses alone no small network learns to compare and
    count, so there is a relation network over the things that are there beside them.

    >>> said = ToyboxVQAHead(words=9, answers=4)(torch.rand(2, 48, 16, 16), torch.tensor([[4, 5], [6, 0]]))
    >>> said.logits.shape, said.attention.shape
    (torch.Size([2, 4]), torch.Size([2, 2, 16, 16]))
    """

    def __init__(
        self,
        words: int,
        answers: int,
        channels: int = CHANNELS,
        embedded: int = 64,
        hidden: int = 128,
        inner: int = 256,
        told: int = 48,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        size = channels + 2
        self.embedding = nn.Embedding(words, embedded, padding_idx=0)
        self.lstm = nn.LSTM(embedded, hidden, batch_first=True)
        self.look, self.attention_pooling = nn.Linear(hidden, GLIMPSES * size), AttentionPooling()
        self.objects, self.meant = ObjectDetector(channels), WordGrounding(size + TRAITS, embedded, hidden, told)
        self.relations = Relations(size + TRAITS + told, hidden, 128)
        self.answer = nn.Sequential(
            nn.Linear(GLIMPSES * size + 256 + hidden, inner),
            nn.Sequential(nn.ReLU(), nn.Dropout(dropout)),
            nn.Linear(inner, inner),
            nn.Sequential(nn.ReLU(), nn.Dropout(dropout)),
            nn.Linear(inner, answers),
        )

    def encode(self, features: FeatureMaps, question: Sentences) -> tuple[Tensor, Glimpses]:
        """What the glimpses found, how things are related, and the question."""
        words, spoken = self.embedding(question), question != 0
        heard, _ = self.lstm(words)
        last = spoken.sum(1).clamp_min(1) - 1
        q = heard[torch.arange(len(heard), device=heard.device), last]
        v = torch.cat([features, places(features)], 1).flatten(2).mT
        seen, looked = self.attention_pooling(self.look(q).unflatten(1, (GLIMPSES, -1)) @ v.mT, v)
        objects, present, _ = self.objects(features)
        told = self.meant(objects, words, heard, spoken)
        related = self.relations(torch.cat([objects, told], 2), objects[:, :, -TRAITS:], present, q)
        return torch.cat([looked.flatten(1), related, q], 1), seen.unflatten(2, features.shape[2:])


def variance_vqa_head(words: int, answers: int, dropout: float = 0.25) -> ToyboxVQAHead:
    """The same with dropout and a variance head: it says how certain it is.

    >>> variance_vqa_head(9, 4)(torch.rand(2, 48, 16, 16), torch.tensor([[4, 5], [6, 0]])).variance.shape
    torch.Size([2, 1])
    """
    network = ToyboxVQAHead(words, answers, dropout=dropout)
    network.variance_head = VarianceHead(answers)
    return network


class ToyboxCaptionHead(TopDown):
    """The captioner of Toybox: top-down attention, small, whose gist of an image is how much there is of everything.

    A mean over places does not tell two cats from one large one; the sum of the traits of all that is found does. It
    looks at regions of 2 x 2 places.

    >>> ToyboxCaptionHead(words=9)(torch.rand(2, 48, 16, 16), torch.tensor([[4, 5], [6, 0]])).logits.shape
    torch.Size([2, 3, 9])
    """

    def __init__(self, words: int) -> None:
        gist = CHANNELS + TRAITS
        super().__init__(CHANNELS, words, embedded=64, hidden=192, attended=64, dropout=0.1, gist=gist)
        self.objects = ObjectDetector(CHANNELS)

    def regions(self, features: FeatureMaps) -> FeatureMaps:
        """Means of 2 x 2 places."""
        return F.avg_pool2d(features, 2)

    def gist(self, features: FeatureMaps) -> Float[Tensor, "sentence gist"]:
        """The mean of the features, and how many things there are of every kind and every colour."""
        found = self.objects(features)
        counted = torch.einsum("bt,btc->bc", found.present, found.objects[:, :, -TRAITS:])
        return torch.cat([super().gist(features), counted], 1)


def places(features: FeatureMaps) -> Float[Tensor, "batch 2 rows columns"]:
    """The row and the column of every place, from -1 to 1.

    >>> places(torch.zeros(1, 6, 3, 2))[0, 0].tolist()
    [[-1.0, -1.0], [0.0, 0.0], [1.0, 1.0]]
    """
    batch, _, rows, columns = features.shape
    axes = [torch.linspace(-1, 1, n, dtype=features.dtype, device=features.device) for n in (rows, columns)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).expand(batch, 2, rows, columns)
