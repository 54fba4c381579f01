r"""Channels as masks of the image, without gradients: Score-CAM, SS-CAM, IS-CAM.

Every channel of the layer, upsampled to the image and rescaled to the range from 0 to 1, masks the image; the score of
the masked image gives the weight of the channel. A few masks are in memory at a time.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from saywhy.engine.runner import ModelRunner
from saywhy.methods.channel import combine
from saywhy.methods.registry import method
from saywhy.progress import counted
from saywhy.shapes import LINEAR, FeatureMaps, at_least_float32
from saywhy.validation import NonNegativeFloat, PositiveInt

ScoreWeights = Literal["softmax", "increase"]
MaskScale = Literal["linear", "cumulative"]


@method(
    "scorecam",
    title="Score-CAM",
    paper="Wang et al., 2020",
    equation="ReLU(Σₖ wₖ Aₖ), w = softmax(y(x ⊙ Hₖ) - y(0))",
    family="perturbation",
    order=280,
    scale_free=False,
    passes="several",
)
def scorecam(runner: ModelRunner, *, weights: ScoreWeights = "softmax", relu: bool = True) -> Tensor:
    r"""Score-CAM (Wang et al., 2020, algorithm 1): each channel weighted by the score of the image masked by it.

    .. math:: H_k = \frac{U(A^k) - \min U(A^k)}{\max U(A^k) - \min U(A^k)}, \qquad
              C_k = y(x \odot H_k) - y(x_b), \qquad w = \mathrm{softmax}(C), \qquad
              L = \mathrm{ReLU}\Big(\sum_k w_k A^k\Big)

    with bilinear upsampling :math:`U` to the image and an image of zeros :math:`x_b`. The softmax is over the
    channels.

    Args:
        runner: the network, the images and the layer.
        weights: ``"softmax"`` as in the algorithm; ``"increase"`` takes :math:`C_k` itself (the increase of confidence
            in the paper's definition), which makes the normalised map independent of the units of the score.
        relu: False keeps negative values, which only layers with negative activations, or ``"increase"``, have.

    Returns:
        Maps [batch, target, *space] on the layer's grid, in units of the activations (times the score's, for
        ``"increase"``).

    Raises:
        MethodError: ``weights`` is none of the two.

    Differs from the paper: a constant channel has weight zero (the paper divides 0 by 0 there); no epsilon is added.

    Differs from other code: the authors' code weights by the probability of the class, without a softmax over channels
    (``weights="increase", score="probability"``, except for the image of zeros). pytorch-grad-cam upsamples with the
    corners aligned; torchcam rescales the channel to the range from 0 to 1 before upsampling, not after; both add 1e-8
    to the range. With their masks the maps are the same.

    >>> runner = ModelRunner.of(torch.nn.Identity(), torch.tensor([[[2.0, 0.0], [5.0, 5.0]]]), lambda x: x.sum((1, 2)))
    >>> scorecam(runner)  # the second channel is constant, so all weight is on the first
    tensor([[[2., 0.]]])
    """
    return _weighted_maps(runner, "scorecam", 1, lambda H, _: H, weights, relu)


@method(
    "sscam",
    title="SS-CAM",
    paper="Wang et al., 2020",
    equation="ReLU(Σₖ wₖ Aₖ), w = softmax(mean over noise of y(x ⊙ (Hₖ + δ)) - y(0))",
    family="perturbation",
    order=290,
    scale_free=False,
    passes="several",
)
def sscam(
    runner: ModelRunner,
    *,
    num_samples: PositiveInt = 35,
    noise: NonNegativeFloat = 2.0,
    weights: ScoreWeights = "softmax",
    relu: bool = True,
) -> Tensor:
    r"""SS-CAM (Wang, Naidu, Michael, Kundu, 2020): Score-CAM, averaged over noise added to the masks.

    .. math:: C_k = \frac{1}{N} \sum_{i=1}^{N} y\big(x \odot (H_k + \delta_i)\big) - y(x_b), \qquad
              \delta_i \sim \mathcal{N}(0, \sigma^2), \qquad w = \mathrm{softmax}(C)

    Args:
        runner: the network, the images and the layer.
        num_samples: the number of noise samples for every channel, ``N``.
        noise: standard deviation of the noise; masks range from 0 to 1.
        weights: ``"softmax"`` over the channels, or ``"increase"``, see :func:`scorecam`.
        relu: False keeps negative values.

    Returns:
        Maps [batch, target, *space] on the layer's grid, in units of the activations.

    Raises:
        MethodError: ``num_samples``, ``noise`` or ``weights`` is out of range.

    Differs from the paper: only the first of its two variants, noise on the feature map; constant channels have weight
    zero.

    >>> runner = ModelRunner.of(torch.nn.Identity(), torch.tensor([[[2.0, 0.0], [0.0, 2.0]]]), lambda x: x.sum((1, 2)))
    >>> sscam(runner, num_samples=2, noise=0.0)  # both channels give the same score
    tensor([[[1., 1.]]])
    """
    return _weighted_maps(runner, "sscam", num_samples, lambda H, _: H, weights, relu, noise=noise)


@method(
    "iscam",
    title="IS-CAM",
    paper="Naidu et al., 2020",
    equation="ReLU(Σₖ wₖ Aₖ), w = softmax(mean of y(x ⊙ a Hₖ) - y(0) for a to 1)",
    family="perturbation",
    order=300,
    scale_free=False,
    passes="several",
)
def iscam(
    runner: ModelRunner,
    *,
    steps: PositiveInt = 10,
    scale: MaskScale = "linear",
    weights: ScoreWeights = "softmax",
    relu: bool = True,
) -> Tensor:
    r"""IS-CAM (Naidu et al., 2020): Score-CAM, averaged over masks of increasing intensity.

    .. math:: C_k = \frac{1}{N} \sum_{i=1}^{N} y(x \odot a_i H_k) - y(x_b), \qquad a_i = \frac{i}{N}, \qquad
              w = \mathrm{softmax}(C)

    Args:
        runner: the network, the images and the layer.
        steps: the number of steps ``N``.
        scale: ``"linear"`` as above, an integral from the black image to the masked one; ``"cumulative"`` adds the
            masks of all steps so far, :math:`a_i = \sum_{j \le i} j / N`, up to :math:`(N + 1) / 2` times the mask.
        weights: ``"softmax"`` over the channels, or ``"increase"``, see :func:`scorecam`.
        relu: False keeps negative values.

    Returns:
        Maps [batch, target, *space] on the layer's grid, in units of the activations.

    Raises:
        MethodError: ``steps``, ``scale`` or ``weights`` is invalid.

    Differs from other code: torchcam sums the masks (``"cumulative"``), so that with its 10 steps most images are
    brighter than the original, up to 5.5 times. Constant channels have weight zero.

    >>> runner = ModelRunner.of(torch.nn.Identity(), torch.tensor([[[2.0, 0.0], [0.0, 2.0]]]), lambda x: x.sum((1, 2)))
    >>> iscam(runner, steps=2, weights="increase")  # the mean of 1/2 and 1 times the score of 2
    tensor([[[3., 3.]]])
    """

    def faded(H: Tensor, step: int) -> Tensor:
        i = step + 1
        return H * (i / steps if scale == "linear" else i * (i + 1) / 2 / steps)

    return _weighted_maps(runner, "iscam", steps, faded, weights, relu)


def _weighted_maps(
    runner: ModelRunner,
    what: str,
    turns: int,
    changed: Callable[[Tensor, int], Tensor],
    weights: ScoreWeights,
    relu: bool,
    noise: float = 0.0,
) -> Tensor:
    """Return maps whose weights are means over ``turns``; in every turn each channel masks the image once."""
    maps = []
    for sample in range(runner.size):
        A = at_least_float32(runner.activations(sample))
        varying = _varying_channels(A)
        increase = _score_increases(runner, sample, A[:, varying], what, turns, changed, noise)
        alpha = increase.softmax(0) if weights == "softmax" else increase
        full = alpha.new_zeros(alpha.shape[1], A.shape[1])  # (target, channel)
        full[:, varying] = alpha.T
        maps.append(combine(full.to(A), A.expand(len(full), *A.shape[1:]), relu=relu))
    return torch.stack(maps)


def _varying_channels(A: FeatureMaps) -> Tensor:
    """Return the indices of the channels that are not constant."""
    flat = A[0].flatten(1)
    return (flat.amax(1) > flat.amin(1)).nonzero().flatten()


def _score_increases(
    runner: ModelRunner,
    sample: int,
    A: FeatureMaps,
    what: str,
    turns: int,
    changed: Callable[[Tensor, int], Tensor],
    noise: float,
) -> Tensor:
    """Return the score of the image masked by each channel, less that of an image of zeros, [channel, target]."""
    image = at_least_float32(runner.image[sample : sample + 1])
    count = A.shape[1]
    empty = runner.scores(torch.zeros_like(image), torch.tensor([sample]))[0].double()
    total = empty.new_zeros(count, len(empty))
    generator = runner.generator()  # anew for every sample, whatever its index in the batch
    with counted(what, turns * count) as advance:
        for turn in range(turns):
            states = {0: generator.get_state()}

            def masked(part: slice, turn: int = turn, states: dict[int, Tensor] = states) -> FeatureMaps:
                H = channel_masks(runner.on_image(A[:, part])[0], image.shape[2:])
                if noise:  # a part that is run again gets the same noise
                    generator.set_state(states[part.start])
                    H = H + noise * torch.stack([torch.randn(H.shape[1:], generator=generator) for _ in H]).to(H)
                    states[part.stop] = generator.get_state()
                return image * changed(H, turn).unsqueeze(1)

            for part, scores in runner.perturbed_scores(sample, count, masked):
                total[part] += scores.double()
                advance(len(scores))
    return total / turns - empty


def channel_masks(channels: Tensor, space: Sequence[int]) -> Tensor:
    """Return channels [channel, *space] as masks of an image, upsampled and then rescaled to the range from 0 to 1.

    >>> channel_masks(torch.tensor([[1.0, 3.0]]), [2])
    tensor([[0., 1.]])
    """
    large = F.interpolate(channels.unsqueeze(1), tuple(space), mode=LINEAR[len(space)], align_corners=False).squeeze(1)
    shape = (-1, *[1] * len(space))
    low, high = (t.view(shape) for t in large.flatten(1).aminmax(dim=1))
    # After upsampling, a nearly constant channel may be constant up to rounding.
    return torch.where(high > low, (large - low) / torch.where(high > low, high - low, 1.0), 0.0)
