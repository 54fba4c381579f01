"""Answering questions about images: without attention, with stacked attention, and with glimpses.

Every network takes features [batch, channel, row, column] of an image and a question [batch, word], as numbers of a
:class:`saywhy.tasks.vocabulary.Vocabulary`; :class:`VQAModel` puts one behind the trunk that makes the features.

All of them (:class:`VQAHead`) do it in two steps, the first of which is the dear one: a vector of what was seen of the
image and asked, and a classifier of that vector.
"""

import abc
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from saywhy.shapes import FeatureMaps, Images
from saywhy.tasks.vocabulary import Sentences
from saywhy.tasks.vqa.fusion import FUSIONS, Kind

Logits = Float[Tensor, "batch answer"]
Glimpses = Float[Tensor, "batch glimpse row column"]


@dataclass
class VQAOutput:
    """What a network says of a question.

    Attributes:
        logits: [batch, answer].
        attention: [batch, glimpse, row, column], each glimpse adding up to 1; None for networks without attention.
        variance: of the noise that the network expects in its logits, [batch, 1]; None for networks that do not say.
    """

    logits: Logits
    attention: Glimpses | None = None
    variance: Float[Tensor, "batch 1"] | None = None


class AttentionPooling(nn.Module):
    """Where to look: the softmax over places of some logits, and the mean of the features under it.

    ``logits`` and ``weighted`` change nothing. They are where a hook sees, and may alter the gradient of, the logits of
    attention and the features under it, place by place, before they are added up; the latter are many, and are made
    only while somebody watches them.

    >>> seen, found = AttentionPooling()(torch.zeros(1, 2, 4), torch.rand(1, 4, 3))
    >>> seen.shape, found.shape
    (torch.Size([1, 2, 4]), torch.Size([1, 2, 3]))
    """

    def __init__(self) -> None:
        super().__init__()
        self.logits, self.weighted = nn.Identity(), nn.Identity()

    def forward(
        self, logits: Float[Tensor, "batch glimpse place"], v: Float[Tensor, "batch place channel"]
    ) -> tuple[Float[Tensor, "batch glimpse place"], Float[Tensor, "batch glimpse channel"]]:
        """Attention, and what it finds."""
        seen = self.logits(logits).softmax(-1)
        if not self.weighted._forward_hooks:
            return seen, seen @ v
        return seen, self.weighted(seen.unsqueeze(-1) * v.unsqueeze(1)).sum(2)


class VQAHead(nn.Module, abc.ABC):
    """A network that looks at an image for a question, and answers from what it has found.

    Attributes:
        answer: from the vector of :meth:`find` to logits.
        variance_head: from these logits and that vector to the variance of the noise in the logits [batch, 1]; None for
            a network that does not say how certain it is.
    """

    answer: nn.Module
    variance_head: nn.Module | None

    def __init__(self) -> None:
        super().__init__()
        self.register_module("variance_head", None)

    @abc.abstractmethod
    def find(self, features: FeatureMaps, question: Sentences) -> tuple[Float[Tensor, "batch found"], Glimpses | None]:
        """What is found for a question in each image, and where it looked."""

    def forward(self, features: FeatureMaps, question: Sentences) -> VQAOutput:
        """Answers to a question for each image."""
        found, attention = self.find(features, question)
        logits = self.answer(found)
        return VQAOutput(logits, attention, None if self.variance_head is None else self.variance_head(logits, found))


class QuestionEncoder(nn.Module):
    """Words to one vector: embedding, dropout, tanh, and the last states of an LSTM.

    Args:
        words: how many there are in the vocabulary; 0 is no word.
        embedded: numbers a word.
        hidden: numbers a state.
        layers: of the LSTM.
        state: ``"hidden"`` or ``"cell"`` of the last layer, or ``"all"``: both of every layer, one after the other.

    >>> QuestionEncoder(9, 4, 5)(torch.tensor([[4, 5, 6], [4, 0, 0]])).shape
    torch.Size([2, 5])
    """

    def __init__(
        self, words: int, embedded: int, hidden: int, layers: int = 1, state: str = "hidden", dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.state, self.size = state, hidden * (2 * layers if state == "all" else 1)
        self.embedding = nn.Embedding(words, embedded, padding_idx=0)
        self.dropout = nn.Dropout(dropout)
        self.lstm = nn.LSTM(embedded, hidden, layers, batch_first=True)

    def forward(self, question: Sentences) -> Float[Tensor, "batch state"]:
        """The state behind the last word of every question."""
        lengths = (question != 0).sum(1).clamp_min(1).cpu()
        words = self.dropout(self.embedding(question)).tanh()
        packed = pack_padded_sequence(words, lengths, batch_first=True, enforce_sorted=False)
        _, (hidden, cell) = self.lstm(packed)
        if self.state == "all":
            return torch.cat([hidden, cell]).movedim(0, 1).flatten(1)
        return cell[-1] if self.state == "cell" else hidden[-1]


class DeeperLstm(VQAHead):
    """No attention: "deeper LSTM + norm I" (Lu et al., 2015), the network of the Grad-CAM paper's section 8.2.

    The image is one vector of length 1 (its features' mean), the question both states of two LSTM layers; their
    product in ``fused`` dimensions gives the answer.

    Args:
        channels: of the features.
        words, answers: how many of them there are.
        embedded, hidden, fused: sizes; the paper's are 200, 512 and 1,024, with 1,000 answers.

    >>> net = DeeperLstm(6, words=9, answers=3, embedded=4, hidden=5, fused=8)
    >>> net(torch.rand(2, 6, 7, 7), torch.tensor([[4, 5], [6, 0]])).logits.shape
    torch.Size([2, 3])
    """

    def __init__(
        self,
        channels: int,
        words: int,
        answers: int,
        embedded: int = 200,
        hidden: int = 512,
        fused: int = 1024,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.question_encoder = QuestionEncoder(words, embedded, hidden, layers=2, state="all", dropout=dropout)
        self.fusion = FUSIONS["product"](channels, self.question_encoder.size, fused)
        self.answer = nn.Sequential(nn.Dropout(dropout), nn.Linear(fused, answers))

    def find(self, features: FeatureMaps, question: Sentences) -> tuple[Tensor, None]:
        """The product of image and question."""
        image = nn.functional.normalize(features.flatten(2).mean(2), dim=1)
        return self.fusion(image, self.question_encoder(question)), None


class StackedAttention(VQAHead):
    """SAN (Yang et al., 2016, equations 15 to 22): the question looks several times, each time knowing more.

    ``h = tanh(V v + U u)``, ``p = softmax(w h)`` over places, ``u <- u + sum of p v``.

    Args:
        channels: of the features.
        words, answers: how many of them there are.
        embedded, hidden: sizes of a word and of the question, which is the size of a place's features too (500, 1,024).
        attended: size of ``h`` (512).
        hops: how often it looks (2).

    >>> net = StackedAttention(6, words=9, answers=3, embedded=4, hidden=5, attended=8)
    >>> net(torch.rand(2, 6, 7, 7), torch.tensor([[4, 5], [6, 0]])).attention.shape
    torch.Size([2, 2, 7, 7])
    """

    def __init__(
        self,
        channels: int,
        words: int,
        answers: int,
        embedded: int = 500,
        hidden: int = 1024,
        attended: int = 512,
        hops: int = 2,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.question_encoder = QuestionEncoder(words, embedded, hidden, dropout=dropout)
        self.place = nn.Linear(channels, hidden)
        self.images = nn.ModuleList(nn.Linear(hidden, attended, bias=False) for _ in range(hops))
        self.questions = nn.ModuleList(nn.Linear(hidden, attended) for _ in range(hops))
        self.looks = nn.ModuleList(nn.Linear(attended, 1) for _ in range(hops))
        self.attention_pooling = nn.ModuleList(AttentionPooling() for _ in range(hops))
        self.dropout = nn.Dropout(dropout)
        self.answer = nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden, answers))

    def find(self, features: FeatureMaps, question: Sentences) -> tuple[Tensor, Glimpses]:
        """What the last hop knows; the attention of every hop."""
        grid = features.shape[2:]
        v = self.place(features.flatten(2).mT).tanh()  # [batch, place, hidden]
        u, seen = self.question_encoder(question), []
        for image, asked, look, attention_pooling in zip(
            self.images, self.questions, self.looks, self.attention_pooling, strict=True
        ):
            h = self.dropout((image(v) + asked(u).unsqueeze(1)).tanh())
            attention, found = attention_pooling(look(h).mT, v)
            seen.append(attention)
            u = u + found.squeeze(1)
        return u, torch.cat(seen, 1).unflatten(2, grid)


class ShowAskAttendAnswer(VQAHead):
    """Two glimpses and a classifier of what they saw (Kazemi and Elqursh, 2017), U-CAM's base.

    Features have length 1 at every place; a fusion of place and question gives ``glimpses`` softmaxes over places; the
    means under them and the question are read by two linear layers.

    Args:
        channels: of the features (2,048).
        words, answers: how many of them there are (3,000 answers).
        embedded, hidden: sizes of a word and of the question (300, 1,024).
        attended: size in which place and question meet (512).
        fusion: how they meet: ``"sum"`` as in the paper, ``"product"``, ``"mutan"`` or ``"mcb"``.
        glimpses: how many (2).
        inner: of the classifier (1,024).

    >>> net = ShowAskAttendAnswer(6, words=9, answers=3, embedded=4, hidden=5, attended=8, inner=7)
    >>> said = net(torch.rand(2, 6, 7, 7), torch.tensor([[4, 5], [6, 0]]))
    >>> said.logits.shape, said.attention.shape
    (torch.Size([2, 3]), torch.Size([2, 2, 7, 7]))
    """

    def __init__(
        self,
        channels: int,
        words: int,
        answers: int,
        embedded: int = 300,
        hidden: int = 1024,
        attended: int = 512,
        fusion: Kind = "sum",
        glimpses: int = 2,
        inner: int = 1024,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.question_encoder = QuestionEncoder(words, embedded, hidden, state="cell", dropout=dropout)
        self.dropout = nn.Dropout(dropout)
        self.fusion = FUSIONS[fusion](channels, hidden, attended)
        self.look, self.attention_pooling = nn.Linear(attended, glimpses), AttentionPooling()
        self.answer = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(glimpses * channels + hidden, inner),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(inner, answers),
        )

    def find(self, features: FeatureMaps, question: Sentences) -> tuple[Tensor, Glimpses]:
        """What both glimpses found, and the question."""
        grid = features.shape[2:]
        v = nn.functional.normalize(features.flatten(2).mT, dim=-1)  # [batch, place, channel]
        q = self.question_encoder(question)
        met = self.dropout(self.fusion(self.dropout(v), self.dropout(q).unsqueeze(1)))
        seen, found = self.attention_pooling(self.look(met).mT, v)
        return torch.cat([found.flatten(1), q], 1), seen.unflatten(2, grid)


class QuestionOnly(VQAHead):
    """What can be guessed without looking at the image: the control of every claim about answers.

    >>> QuestionOnly(9, 3, 4, 5)(torch.rand(2, 6, 7, 7), torch.tensor([[4, 5], [6, 0]])).logits.shape
    torch.Size([2, 3])
    """

    def __init__(self, words: int, answers: int, embedded: int = 200, hidden: int = 512, dropout: float = 0.5) -> None:
        super().__init__()
        self.question_encoder = QuestionEncoder(words, embedded, hidden, dropout=dropout)
        self.answer = nn.Sequential(
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, answers)
        )

    def find(self, features: FeatureMaps, question: Sentences) -> tuple[Tensor, None]:
        """The question, whatever the image."""
        return self.question_encoder(question), None


class VQAModel(nn.Module):
    """A network for questions behind the trunk that makes its features, to be asked with an image.

    >>> net = VQAModel(nn.Conv2d(3, 6, 3), DeeperLstm(6, 9, 3, 4, 5, 8))
    >>> net(torch.rand(2, 3, 8, 8), torch.tensor([[4, 5], [6, 0]])).logits.shape
    torch.Size([2, 3])
    """

    def __init__(self, trunk: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.trunk, self.head = trunk, head

    def forward(self, image: Images, question: Sentences) -> VQAOutput:
        """Preprocessed images [batch, 3, height, width] and questions [batch, word]."""
        answers: VQAOutput = self.head(self.trunk(image), question)
        return answers
