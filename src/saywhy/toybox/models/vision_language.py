"""The networks of Toybox for VQA, captioning and question generation, on a visual trunk that reuses the classifier.

All visual information passes through one layer, ``trunk.features``: the classifier's feature maps at several depths,
the colours and the positions, combined by two convolutions. So a saliency map at that layer covers all visual evidence.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from saywhy.shapes import FeatureMaps, Images
from saywhy.tasks.generation.networks import ShowAndTell, TopDown
from saywhy.tasks.vocabulary import Sentences
from saywhy.tasks.vqa.networks import AttentionPooling, Glimpses, VQAHead
from saywhy.toybox import COLOURS, KINDS
from saywhy.toybox.models.classifier import WIDTHS, ToyboxClassifier
from saywhy.uncertainty.variance_head import VarianceHead

CHANNELS = 48
"""Channels of ``trunk.features``."""

GLIMPSES = 2
"""Attention glimpses per question."""

MAX_OBJECTS = 6
"""The maximum number of detected objects; a scene has at most four."""

TRAITS = len(KINDS) + 1 + len(COLOURS) + 1
"""Number of class probabilities of an object: every kind and none, every colour and none."""

FAR = 4.0
"""Factor on the row and column of an object, so that small differences in position count."""

Depths = Float[Tensor, "batch depths rows columns"]


class ToyboxTrunk(nn.Module):
    """The visual trunk: images [batch, 3, 128, 128] to features [batch, CHANNELS, 16, 16].

    ``depths`` is the frozen part: the feature maps of the classifier's stages, the image's colours and the positions,
    all at 16 x 16. ``features`` combines them.

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
        """Return the classifier's feature maps at every depth, the colours, and the positions."""
        low = self.blocks[0](self.stem(images))
        middle = self.blocks[1](low)
        high = self.blocks[3](self.blocks[2](middle))
        return torch.cat([high, middle, F.avg_pool2d(low, 2), F.avg_pool2d(images, 8), places(high)], 1)

    def forward(self, images: Images) -> FeatureMaps:
        """Return the features of normalised images."""
        return self.features(self.depths(images))


class DetectedObjects(NamedTuple):
    """The objects that are detected in an image.

    Attributes:
        objects: [batch, object, channel]: the features at its position, its row and column, and the ``TRAITS``.
        present: [batch, object] the probability that it exists.
        at: [batch, object] the flat index of its position.
    """

    objects: Float[Tensor, "batch object channel"]
    present: Float[Tensor, "batch object"]
    at: Int[Tensor, "batch object"]


class ObjectDetector(nn.Module):
    """A detector of object centres, with the features there and the probabilities of kind and colour.

    A position is a centre if its log-odds (``centre``) are a local maximum; at most ``MAX_OBJECTS`` are selected. The
    selection is discontinuous, as in every detector; the weight ``present`` is continuous. As in bottom-up attention
    (Anderson et al., 2018), objects carry their class probabilities.

    >>> found = ObjectDetector(48)(torch.rand(2, 48, 16, 16))
    >>> found.objects.shape, found.present.shape
    (torch.Size([2, 6, 82]), torch.Size([2, 6]))
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.centre = nn.Conv2d(channels, 1, 1)
        self.kind, self.colour = nn.Conv2d(channels, len(KINDS) + 1, 1), nn.Conv2d(channels, len(COLOURS) + 1, 1)

    def forward(self, features: FeatureMaps) -> DetectedObjects:
        """Return the objects of every image."""
        centres = self.centre(features)
        local_maxima = centres == F.max_pool2d(centres, 3, 1, 1)
        present, at = (centres.sigmoid() * local_maxima).flatten(1).topk(MAX_OBJECTS, 1)
        kinds, colours = self.kind(features).softmax(1), self.colour(features).softmax(1)
        everything = torch.cat([features, FAR * places(features), kinds, colours], 1).flatten(2).mT
        return DetectedObjects(everything.gather(1, at[:, :, None].expand(-1, -1, everything.shape[2])), present, at)


class WordGrounding(nn.Module):
    """Grounding of words in objects: every object receives the states of the words that refer to it.

    ``c_i = sum over words of sigmoid(o_i . W e_w) h_w``: the embedding of a word (e) is compared with the object, and
    its state in the sentence (h) is passed on, as in co-attention (Lu et al., 2016). So an object has the information
    whether the question refers to it first, second, or not at all.
    """

    def __init__(self, size: int, embedded: int, hidden: int, grounded: int) -> None:
        super().__init__()
        self.object_projection, self.word_projection = nn.Linear(size, embedded), nn.Linear(embedded, embedded)
        self.state_projection = nn.Linear(hidden, grounded)

    def forward(
        self,
        objects: Float[Tensor, "batch object channel"],
        words: Float[Tensor, "batch word embedded"],
        states: Float[Tensor, "batch word hidden"],
        valid: Bool[Tensor, "batch word"],
    ) -> Float[Tensor, "batch object grounded"]:
        """Return the grounded word states of every object; ``valid`` is False for padding."""
        return (self.log_odds(objects, words).sigmoid() * valid.unsqueeze(1)) @ self.state_projection(states)

    def log_odds(
        self, objects: Float[Tensor, "batch object channel"], words: Float[Tensor, "batch word embedded"]
    ) -> Float[Tensor, "batch object word"]:
        """Return the log-odds that a word refers to an object."""
        return self.object_projection(objects) @ self.word_projection(words).mT


class Relations(nn.Module):
    """A relation network over single objects and pairs of objects (Santoro et al., 2017, equation 1).

    ``sum over i of p_i h(o_i, q)`` and ``sum over i, j of p_i p_j g(o_i, o_j, q)``, where p is the probability that an
    object exists. The first layer of g is a sum of linear layers of each object, so it is computed per object and not
    per pair, and of a linear layer of the product of their traits (equality of kind and colour).
    """

    def __init__(self, size: int, question: int, hidden: int) -> None:
        super().__init__()
        self.single, self.pair_first, self.pair_second = (nn.Linear(size, hidden, bias=False) for _ in range(3))
        self.pair_product = nn.Linear(TRAITS, hidden, bias=False)
        self.question = nn.Linear(question, 4 * hidden)
        self.single_output, self.pair_output = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)

    def forward(
        self,
        objects: Float[Tensor, "batch object channel"],
        traits: Float[Tensor, "batch object trait"],
        present: Float[Tensor, "batch object"],
        question: Float[Tensor, "batch state"],
    ) -> Float[Tensor, "batch related"]:
        """Return both sums, concatenated: [batch, 2 * hidden]."""
        single_bias, pair_bias, single_scale, pair_scale = self.question(question).unsqueeze(1).chunk(4, 2)
        singles = (self.single_output((self.single(objects) + single_bias).relu()) * (1 + single_scale)).relu()
        pairs = self.pair_first(objects).unsqueeze(1) + self.pair_second(objects).unsqueeze(2) + pair_bias.unsqueeze(1)
        pairs = pairs + self.pair_product(traits.unsqueeze(1) * traits.unsqueeze(2))
        pairs = (self.pair_output(pairs.relu()) * (1 + pair_scale.unsqueeze(1))).relu()
        both = present.unsqueeze(1) * present.unsqueeze(2)
        return torch.cat([torch.einsum("bt,bth->bh", present, singles), torch.einsum("btu,btuh->bh", both, pairs)], 1)


class ToyboxVQAHead(VQAHead):
    """The VQA head of Toybox: attention glimpses, and a relation network over detected objects.

    A glimpse is a softmax over positions of ``v_p . W q``. With glimpses alone no small network learns to compare and
    count; the relation network adds this.

    >>> output = ToyboxVQAHead(words=9, answers=4)(torch.rand(2, 48, 16, 16), torch.tensor([[4, 5], [6, 0]]))
    >>> output.logits.shape, output.attention.shape
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
        grounded: int = 48,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        size = channels + 2
        self.embedding = nn.Embedding(words, embedded, padding_idx=0)
        self.lstm = nn.LSTM(embedded, hidden, batch_first=True)
        self.attention_query, self.attention_pooling = nn.Linear(hidden, GLIMPSES * size), AttentionPooling()
        self.objects = ObjectDetector(channels)
        self.grounding = WordGrounding(size + TRAITS, embedded, hidden, grounded)
        self.relations = Relations(size + TRAITS + grounded, hidden, 128)
        self.answer = nn.Sequential(
            nn.Linear(GLIMPSES * size + 256 + hidden, inner),
            nn.Sequential(nn.ReLU(), nn.Dropout(dropout)),
            nn.Linear(inner, inner),
            nn.Sequential(nn.ReLU(), nn.Dropout(dropout)),
            nn.Linear(inner, answers),
        )

    def encode(self, features: FeatureMaps, question: Sentences) -> tuple[Tensor, Glimpses]:
        """Return the attended features, the relations and the question as one vector, and the attention."""
        words, valid = self.embedding(question), question != 0
        states, _ = self.lstm(words)
        last = valid.sum(1).clamp_min(1) - 1
        q = states[torch.arange(len(states), device=states.device), last]
        v = torch.cat([features, places(features)], 1).flatten(2).mT
        attention, attended = self.attention_pooling(self.attention_query(q).unflatten(1, (GLIMPSES, -1)) @ v.mT, v)
        objects, present, _ = self.objects(features)
        grounded = self.grounding(objects, words, states, valid)
        related = self.relations(torch.cat([objects, grounded], 2), objects[:, :, -TRAITS:], present, q)
        return torch.cat([attended.flatten(1), related, q], 1), attention.unflatten(2, features.shape[2:])


def variance_vqa_head(words: int, answers: int, dropout: float = 0.25) -> ToyboxVQAHead:
    """Return a :class:`ToyboxVQAHead` with dropout and a variance head (aleatoric uncertainty).

    >>> variance_vqa_head(9, 4)(torch.rand(2, 48, 16, 16), torch.tensor([[4, 5], [6, 0]])).variance.shape
    torch.Size([2, 1])
    """
    network = ToyboxVQAHead(words, answers, dropout=dropout)
    network.variance_head = VarianceHead(answers)
    return network


class ToyboxCaptionHead(TopDown):
    """The captioning head of Toybox: top-down attention with object counts in the global image vector.

    A mean over positions cannot distinguish two cats from one large cat; the sum of the traits of all detected objects
    can. The attended regions are 2 x 2 positions.

    >>> ToyboxCaptionHead(words=9)(torch.rand(2, 48, 16, 16), torch.tensor([[4, 5], [6, 0]])).logits.shape
    torch.Size([2, 3, 9])
    """

    def __init__(self, words: int) -> None:
        super().__init__(
            CHANNELS, words, embedded=64, hidden=192, attended=64, dropout=0.1, global_channels=CHANNELS + TRAITS
        )
        self.objects = ObjectDetector(CHANNELS)

    def regions(self, features: FeatureMaps) -> FeatureMaps:
        """Return means of 2 x 2 positions."""
        return F.avg_pool2d(features, 2)

    def global_feature(self, features: FeatureMaps) -> Float[Tensor, "sentence channel"]:
        """Return the mean of the features, and the expected number of objects of every kind and colour."""
        found = self.objects(features)
        counted = torch.einsum("bt,btc->bc", found.present, found.objects[:, :, -TRAITS:])
        return torch.cat([super().global_feature(features), counted], 1)


def question_head(words: int, attention: bool) -> "ToyboxCaptionHead | ShowAndTell":
    """Return the head of Toybox's question generator: that of its captioner, or one without attention.

    Without attention the image is the mean of the features, the first input of an LSTM.

    >>> [type(question_head(9, attention)).__name__ for attention in (True, False)]
    ['ToyboxCaptionHead', 'ShowAndTell']
    """
    if attention:
        return ToyboxCaptionHead(words)
    return ShowAndTell(CHANNELS, words, embedded=64, hidden=192, dropout=0.1)


def places(features: FeatureMaps) -> Float[Tensor, "batch 2 rows columns"]:
    """Return the row and the column of every position, from -1 to 1.

    >>> places(torch.zeros(1, 6, 3, 2))[0, 0].tolist()
    [[-1.0, -1.0], [0.0, 0.0], [1.0, 1.0]]
    """
    batch, _, rows, columns = features.shape
    axes = [torch.linspace(-1, 1, n, dtype=features.dtype, device=features.device) for n in (rows, columns)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).expand(batch, 2, rows, columns)
