"""The networks that speak about Toybox: they see through the classifier's eyes.

All that they know of a picture goes through one layer, ``trunk.features``: the classifier's maps at several depths and
the colours themselves, mixed by two convolutions. A map of that layer is therefore a map of all the evidence.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from saywhy.models.toybox import WIDTHS, ToyboxClassifier
from saywhy.shapes import FeatureMaps, Images
from saywhy.tasks.captioning import TopDown
from saywhy.tasks.fusion import Mutan
from saywhy.tasks.vocabulary import Sentences
from saywhy.tasks.vqa import Answers, Reader

CHANNELS = 48
"""Of ``trunk.features``."""

GLIMPSES, TALLIES = 3, 2
"""How often a question looks, and how often it adds up."""

Depths = Float[Tensor, "batch depths rows columns"]


class ToyboxEyes(nn.Module):
    """Pictures [batch, 3, 128, 128] to features [batch, CHANNELS, 16, 16], an eighth of the picture's size.

    ``depths`` is the classifier's part, which is not trained again: its last maps, those of its stages before, and the
    picture's colours and places, all at 16 x 16. ``features`` mixes them.

    >>> ToyboxEyes()(torch.zeros(1, 3, 128, 128)).shape
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
        """Features of pictures that are already normalised."""
        return self.features(self.depths(images))


class Modulated(nn.Module):
    """A residual block that a question turns to what it asks for: FiLM (Perez et al., 2018, section 3).

    ``x + relu((1 + gamma) * norm(conv(x')) + beta)`` with ``x' = relu(conv1(x))``, gamma and beta linear in q.
    """

    def __init__(self, channels: int, question: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.turn = nn.Linear(question, 2 * channels)

    def forward(self, x: FeatureMaps, question: Float[Tensor, "batch state"]) -> FeatureMaps:
        """Features of the same shape."""
        x = self.first(x).relu()
        gamma, beta = self.turn(question)[:, :, None, None].chunk(2, 1)
        return x + ((1 + gamma) * self.norm(self.second(x)) + beta).relu()


class ToyboxAnswers(nn.Module):
    """Answers to questions about features, which are modulated by the question, looked at, tallied and fused with it.

    Show, Ask, Attend and Answer with MUTAN (:class:`saywhy.tasks.vqa.ShowAskAttendAnswer`), and three things that small
    networks cannot compare and count without: two blocks that the question modulates before anything is looked at,
    *tallies* beside the glimpses (sums over places instead of means), and the product of the first two glimpses (do
    they show the same?). Places know where they are.

    >>> said = ToyboxAnswers(words=9, answers=4)(torch.rand(2, 48, 16, 16), torch.tensor([[4, 5], [6, 0]]))
    >>> said.logits.shape, said.attention.shape
    (torch.Size([2, 4]), torch.Size([2, 3, 16, 16]))
    """

    def __init__(
        self,
        words: int,
        answers: int,
        channels: int = CHANNELS,
        embedded: int = 64,
        hidden: int = 128,
        inner: int = 192,
    ) -> None:
        super().__init__()
        self.reader = Reader(words, embedded, hidden, dropout=0.0)
        self.blocks = nn.ModuleList(Modulated(channels, hidden) for _ in range(2))
        self.fusion = Mutan(channels + 2, hidden, 64, rank=3)
        self.look, self.tally = nn.Linear(64, GLIMPSES), nn.Linear(64, TALLIES)
        size = (GLIMPSES + TALLIES + 1) * (channels + 2) + channels
        self.norm = nn.LayerNorm(size)
        self.inner, self.asked = nn.Linear(size + hidden, inner), Mutan(size, hidden, 64, rank=3)
        self.answer = nn.Linear(inner + 64, answers)

    def forward(self, features: FeatureMaps, question: Sentences) -> Answers:
        """Answers to a question for each picture, and where was looked."""
        q, where, x = self.reader(question), places(features), features
        for block in self.blocks:
            x = block(x, q)
        v = torch.cat([x, where], 1).flatten(2).mT
        met = self.fusion(v, q.unsqueeze(1))
        seen = self.look(met).mT.softmax(-1)  # [batch, glimpse, place]
        # A sixteenth of the sum over 16 x 16 places: of what is there once or twice a mean would show little.
        counted = self.tally(met).mT.sigmoid() / 16
        found = torch.einsum("bgp,bpc->bgc", torch.cat([seen, counted], 1), v)
        same = found[:, 0] * found[:, 1]
        z = self.norm(torch.cat([found.flatten(1), same, x.amax((2, 3))], 1))
        z = torch.cat([self.inner(torch.cat([z, q], 1)).relu(), self.asked(z, q)], 1)
        return Answers(self.answer(z), seen.unflatten(2, features.shape[2:]))


def toybox_speaker(words: int) -> TopDown:
    """The captioner of Toybox: top-down attention, small."""
    return TopDown(CHANNELS, words, embedded=64, hidden=192, attended=64, dropout=0.1)


def places(features: FeatureMaps) -> Float[Tensor, "batch 2 rows columns"]:
    """The row and the column of every place, from -1 to 1.

    >>> places(torch.zeros(1, 6, 3, 2))[0, 0].tolist()
    [[-1.0, -1.0], [0.0, 0.0], [1.0, 1.0]]
    """
    batch, _, rows, columns = features.shape
    axes = [torch.linspace(-1, 1, n, dtype=features.dtype, device=features.device) for n in (rows, columns)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).expand(batch, 2, rows, columns)
