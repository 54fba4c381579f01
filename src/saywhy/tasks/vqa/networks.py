"""VQA networks: without attention, with stacked attention, and with several glimpses.

Every network takes features [batch, channel, row, column] of an image and a question [batch, word], as word numbers of
a :class:`saywhy.tasks.vocabulary.Vocabulary`; :class:`VQAModel` combines it with the trunk that computes the features.

Every network (:class:`VQAHead`) has two parts: an encoder of image and question into one vector, which takes most of
the time, and a classifier of this vector.
"""

import abc
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from saywhy.shapes import FeatureMaps, Images
from saywhy.tasks.vocabulary import Sentences
from saywhy.tasks.vqa.fusion import FUSIONS, FusionKind

Logits = Float[Tensor, "batch answer"]
Glimpses = Float[Tensor, "batch glimpse row column"]


@dataclass
class VQAOutput:
    """The output of a VQA network.

    Attributes:
        logits: [batch, answer].
        attention: [batch, glimpse, row, column], each glimpse sums to 1; None for networks without attention.
        variance: the variance of the noise in the logits, [batch, 1]; None for networks without a variance head.
    """

    logits: Logits
    attention: Glimpses | None = None
    variance: Float[Tensor, "batch 1"] | None = None


class AttentionPooling(nn.Module):
    """Attention pooling: the softmax of attention logits over places, and the weighted mean of the features.

    ``logits`` and ``weighted`` are identities for hooks, which can read the attention logits and the attended features
    of every place (before their sum), and change their gradients. The attended features need much memory and are
    computed only while a hook is on ``weighted``.

    >>> attention, pooled = AttentionPooling()(torch.zeros(1, 2, 4), torch.rand(1, 4, 3))
    >>> attention.shape, pooled.shape
    (torch.Size([1, 2, 4]), torch.Size([1, 2, 3]))
    """

    def __init__(self) -> None:
        super().__init__()
        self.logits, self.weighted = nn.Identity(), nn.Identity()

    def forward(
        self, logits: Float[Tensor, "batch glimpse place"], v: Float[Tensor, "batch place channel"]
    ) -> tuple[Float[Tensor, "batch glimpse place"], Float[Tensor, "batch glimpse channel"]]:
        """Return the attention and the pooled features."""
        attention = self.logits(logits).softmax(-1)
        if not self.weighted._forward_hooks:
            return attention, attention @ v
        return attention, self.weighted(attention.unsqueeze(-1) * v.unsqueeze(1)).sum(2)


class VQAHead(nn.Module, abc.ABC):
    """A VQA network on image features: it encodes image and question into one vector, and classifies this vector.

    Attributes:
        answer: the classifier, from the vector of :meth:`encode` to logits.
        variance_head: from the logits and this vector to the variance of the noise in the logits [batch, 1]; None for a
            network without a variance head.
    """

    answer: nn.Module
    variance_head: nn.Module | None

    def __init__(self) -> None:
        super().__init__()
        self.register_module("variance_head", None)

    @abc.abstractmethod
    def encode(
        self, features: FeatureMaps, question: Sentences
    ) -> tuple[Float[Tensor, "batch found"], Glimpses | None]:
        """Return the encoding of each image and its question, and the attention."""

    def forward(self, features: FeatureMaps, question: Sentences) -> VQAOutput:
        """Answer a question for each image."""
        found, attention = self.encode(features, question)
        logits = self.answer(found)
        return VQAOutput(logits, attention, None if self.variance_head is None else self.variance_head(logits, found))


class QuestionEncoder(nn.Module):
    """Encode a question as one vector: embedding, dropout, tanh, and the last states of an LSTM.

    Args:
        words: the size of the vocabulary; 0 is padding.
        embedded: the size of word embeddings.
        hidden: the size of a state.
        layers: the number of LSTM layers.
        state: ``"hidden"`` or ``"cell"`` of the last layer, or ``"all"``: both of every layer, concatenated.

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
        """Return the state after the last word of every question."""
        lengths = (question != 0).sum(1).clamp_min(1).cpu()
        words = self.dropout(self.embedding(question)).tanh()
        packed = pack_padded_sequence(words, lengths, batch_first=True, enforce_sorted=False)
        _, (hidden, cell) = self.lstm(packed)
        if self.state == "all":
            return torch.cat([hidden, cell]).movedim(0, 1).flatten(1)
        return cell[-1] if self.state == "cell" else hidden[-1]


class DeeperLstm(VQAHead):
    """A network without attention: "deeper LSTM + norm I" (Lu et al., 2015), of the Grad-CAM paper's section 8.2.

    The image is the L2-normalised mean of its features, the question both states of two LSTM layers; their product in
    ``fused`` dimensions is classified.

    Args:
        channels: the channels of the features.
        words, answers: the sizes of the vocabularies.
        embedded, hidden, fused: the sizes of the layers; the paper's are 200, 512 and 1,024, with 1,000 answers.

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

    def encode(self, features: FeatureMaps, question: Sentences) -> tuple[Tensor, None]:
        """Return the product of image and question."""
        image = nn.functional.normalize(features.flatten(2).mean(2), dim=1)
        return self.fusion(image, self.question_encoder(question)), None


class StackedAttention(VQAHead):
    """Stacked attention network, SAN (Yang et al., 2016, equations 15 to 22): several attention steps (hops).

    ``h = tanh(V v + U u)``, ``p = softmax(w h)`` over places, ``u <- u + sum of p v``.

    Args:
        channels: the channels of the features.
        words, answers: the sizes of the vocabularies.
        embedded, hidden: the sizes of word embeddings and of the question vector, which is also the size of the
            projected features (500, 1,024).
        attended: the size of ``h`` (512).
        hops: the number of attention steps (2).

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
        self.feature_projection = nn.Linear(channels, hidden)
        self.images = nn.ModuleList(nn.Linear(hidden, attended, bias=False) for _ in range(hops))
        self.questions = nn.ModuleList(nn.Linear(hidden, attended) for _ in range(hops))
        self.attention_logits = nn.ModuleList(nn.Linear(attended, 1) for _ in range(hops))
        self.attention_pooling = nn.ModuleList(AttentionPooling() for _ in range(hops))
        self.dropout = nn.Dropout(dropout)
        self.answer = nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden, answers))

    def encode(self, features: FeatureMaps, question: Sentences) -> tuple[Tensor, Glimpses]:
        """Return the vector after the last hop, and the attention of every hop."""
        grid = features.shape[2:]
        v = self.feature_projection(features.flatten(2).mT).tanh()  # [batch, place, hidden]
        u, attentions = self.question_encoder(question), []
        for image, query, logit, attention_pooling in zip(
            self.images, self.questions, self.attention_logits, self.attention_pooling, strict=True
        ):
            h = self.dropout((image(v) + query(u).unsqueeze(1)).tanh())
            attention, pooled = attention_pooling(logit(h).mT, v)
            attentions.append(attention)
            u = u + pooled.squeeze(1)
        return u, torch.cat(attentions, 1).unflatten(2, grid)


class ShowAskAttendAnswer(VQAHead):
    """Show, Ask, Attend and Answer: two attention glimpses and a classifier (Kazemi and Elqursh, 2017), U-CAM's base.

    Features are L2-normalised at every place. The fusion of place and question gives ``glimpses`` softmaxes over
    places; the pooled features of all glimpses and the question are classified by two linear layers.

    Args:
        channels: the channels of the features (2,048).
        words, answers: the sizes of the vocabularies (3,000 answers).
        embedded, hidden: the sizes of word embeddings and of the question vector (300, 1,024).
        attended: the size of the fused vector (512).
        fusion: the fusion of place and question: ``"sum"`` as in the paper, ``"product"``, ``"mutan"`` or ``"mcb"``.
        glimpses: the number of glimpses (2).
        inner: the hidden size of the classifier (1,024).

    >>> net = ShowAskAttendAnswer(6, words=9, answers=3, embedded=4, hidden=5, attended=8, inner=7)
    >>> output = net(torch.rand(2, 6, 7, 7), torch.tensor([[4, 5], [6, 0]]))
    >>> output.logits.shape, output.attention.shape
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
        fusion: FusionKind = "sum",
        glimpses: int = 2,
        inner: int = 1024,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.question_encoder = QuestionEncoder(words, embedded, hidden, state="cell", dropout=dropout)
        self.dropout = nn.Dropout(dropout)
        self.fusion = FUSIONS[fusion](channels, hidden, attended)
        self.attention_logit, self.attention_pooling = nn.Linear(attended, glimpses), AttentionPooling()
        self.answer = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(glimpses * channels + hidden, inner),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(inner, answers),
        )

    def encode(self, features: FeatureMaps, question: Sentences) -> tuple[Tensor, Glimpses]:
        """Return the pooled features of all glimpses and the question, concatenated, and the attention."""
        grid = features.shape[2:]
        v = nn.functional.normalize(features.flatten(2).mT, dim=-1)  # [batch, place, channel]
        q = self.question_encoder(question)
        fused = self.dropout(self.fusion(self.dropout(v), self.dropout(q).unsqueeze(1)))
        attention, pooled = self.attention_pooling(self.attention_logit(fused).mT, v)
        return torch.cat([pooled.flatten(1), q], 1), attention.unflatten(2, grid)


class QuestionOnly(VQAHead):
    """A question-only baseline: it answers without the image (the control of every claim about answers).

    >>> QuestionOnly(9, 3, 4, 5)(torch.rand(2, 6, 7, 7), torch.tensor([[4, 5], [6, 0]])).logits.shape
    torch.Size([2, 3])
    """

    def __init__(self, words: int, answers: int, embedded: int = 200, hidden: int = 512, dropout: float = 0.5) -> None:
        super().__init__()
        self.question_encoder = QuestionEncoder(words, embedded, hidden, dropout=dropout)
        self.answer = nn.Sequential(
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, answers)
        )

    def encode(self, features: FeatureMaps, question: Sentences) -> tuple[Tensor, None]:
        """Return the question vector; the image is not used."""
        return self.question_encoder(question), None


class VQAModel(nn.Module):
    """A VQA network (head) with the trunk that computes its image features.

    >>> net = VQAModel(nn.Conv2d(3, 6, 3), DeeperLstm(6, 9, 3, 4, 5, 8))
    >>> net(torch.rand(2, 3, 8, 8), torch.tensor([[4, 5], [6, 0]])).logits.shape
    torch.Size([2, 3])
    """

    def __init__(self, trunk: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.trunk, self.head = trunk, head

    def forward(self, image: Images, question: Sentences) -> VQAOutput:
        """Answer questions [batch, word] about preprocessed images [batch, 3, height, width]."""
        output: VQAOutput = self.head(self.trunk(image), question)
        return output
