"""Fusion of image features and a question vector: interchangeable modules."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

Feature = Float[Tensor, "*place image"]
QuestionVector = Float[Tensor, "*#place question"]
Fused = Float[Tensor, "*place fused"]

FusionKind = Literal["sum", "product", "mutan", "mcb"]


class SumFusion(nn.Module):
    """``relu(V v + U q)``: Show, Ask, Attend and Answer (Kazemi and Elqursh, 2017).

    >>> SumFusion(6, 5, 4)(torch.zeros(2, 9, 6), torch.zeros(2, 1, 5)).shape
    torch.Size([2, 9, 4])
    """

    def __init__(self, image: int, question: int, fused: int) -> None:
        super().__init__()
        self.image, self.question = nn.Linear(image, fused, bias=False), nn.Linear(question, fused)

    def forward(self, v: Feature, q: QuestionVector) -> Fused:
        """Fuse the features of places, or of a whole image, with a question (broadcast over places)."""
        return (self.image(v) + self.question(q)).relu()


class ProductFusion(nn.Module):
    """``tanh(V v) * tanh(U q)``: "deeper LSTM + norm I" (Lu et al., 2015)."""

    def __init__(self, image: int, question: int, fused: int) -> None:
        super().__init__()
        self.image, self.question = nn.Linear(image, fused), nn.Linear(question, fused)

    def forward(self, v: Feature, q: QuestionVector) -> Fused:
        """As :meth:`SumFusion.forward`."""
        return self.image(v).tanh() * self.question(q).tanh()


class MutanFusion(nn.Module):
    """MUTAN: ``tanh(sum over r of (V_r v') * (U_r q'))`` (Ben-younes et al., 2017, equation 8).

    It is a Tucker decomposition of the bilinear product whose core has rank ``rank`` in every slice; v' and q' are
    projections to ``inner`` dimensions.
    """

    def __init__(self, image: int, question: int, fused: int, inner: int | None = None, rank: int = 5) -> None:
        super().__init__()
        inner = inner or fused
        self.rank = rank
        self.image, self.question = nn.Linear(image, inner), nn.Linear(question, inner)
        self.image_slices, self.question_slices = nn.Linear(inner, rank * fused), nn.Linear(inner, rank * fused)

    def forward(self, v: Feature, q: QuestionVector) -> Fused:
        """As :meth:`SumFusion.forward`."""
        slices = self.image_slices(self.image(v).tanh()) * self.question_slices(self.question(q).tanh())
        return slices.unflatten(-1, (self.rank, -1)).sum(-2).tanh()


class CompactBilinearFusion(nn.Module):
    """Multimodal compact bilinear pooling (Fukui et al., 2016): the sketch of the outer product of v and q.

    ``irfft(rfft(sketch(v)) * rfft(sketch(q)))``, then the signed square root and L2 normalisation. The count sketches
    are random and fixed (their indices and signs are buffers, drawn from ``seed``); there are no trained parameters.

    >>> from torch.nn.functional import cosine_similarity
    >>> pool = CompactBilinearFusion(8, 8, 4096)
    >>> a, b, c, d = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    >>> sketched = (pool.product(a, b) * pool.product(c, d)).sum()
    >>> abs(float(sketched - (a @ c) * (b @ d))) < 1.5  # approximates the inner product of outer products
    True
    """

    def __init__(self, image: int, question: int, fused: int, seed: int = 0) -> None:
        super().__init__()
        self.fused = fused
        generator = torch.Generator().manual_seed(seed)
        for name, size in (("image", image), ("question", question)):
            self.register_buffer(f"{name}_index", torch.randint(fused, (size,), generator=generator))
            self.register_buffer(f"{name}_sign", torch.randint(2, (size,), generator=generator) * 2.0 - 1)

    def forward(self, v: Feature, q: QuestionVector) -> Fused:
        """As :meth:`SumFusion.forward`."""
        product = self.product(v, q)
        # The gradient of the root is infinite at zero, and a zero vector cannot be normalised.
        root = product.sign() * torch.where(product == 0, 1.0, product.abs()).sqrt()
        return nn.functional.normalize(torch.where(product == 0, 0.0, root), dim=-1)

    def product(self, v: Feature, q: QuestionVector) -> Fused:
        """Return the circular convolution of both sketches."""
        spectra = (torch.fft.rfft(self._sketch(t, name)) for t, name in ((v, "image"), (q, "question")))
        image, question = spectra
        return torch.fft.irfft(image * question, self.fused)

    def _sketch(self, t: Tensor, name: str) -> Tensor:
        index, sign = getattr(self, f"{name}_index"), getattr(self, f"{name}_sign")
        return t.new_zeros(*t.shape[:-1], self.fused).index_add(-1, index, t * sign)


FUSIONS: dict[str, type[nn.Module]] = {
    "sum": SumFusion,
    "product": ProductFusion,
    "mutan": MutanFusion,
    "mcb": CompactBilinearFusion,
}
"""The fusion modules by name; each takes (image, question, fused) dimensions."""
