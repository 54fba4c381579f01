"""Shapley-CAM: channel weights from a second-order expansion of the score."""

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from saywhy.engine.runner import ModelRunner
from saywhy.methods.channel import combine
from saywhy.methods.registry import method
from saywhy.progress import counted
from saywhy.shapes import at_least_float32


@method(
    "shapleycam",
    title="Shapley-CAM",
    paper="Cai, 2025",
    equation="ReLU(Σₖ mean(Gₖ - ½ (H A)ₖ) Aₖ), H = ∂²y / ∂A²",
    family="second order",
    order=130,
    passes="several",
)
def shapleycam(runner: ModelRunner, *, relu: bool = True) -> Tensor:
    r"""Shapley-CAM (Cai, 2025): Grad-CAM with the Shapley values of the score's second-order expansion.

    .. math:: \alpha_k = \frac{1}{Z} \sum_p \Big(\frac{\partial y}{\partial A} - \tfrac{1}{2} H A\Big)^k_p, \qquad
              H = \frac{\partial^2 y}{\partial A^2}, \qquad L = \mathrm{ReLU}\Big(\sum_k \alpha_k A^k\Big)

    The players are the units of the layer; an absent player is zero. If the score is linear in the layer (average
    pooling and a linear head) this is Grad-CAM. The paper's residual softmax ("ReST") is the target
    ``Class(c, "logit") + Class(c, "log-probability")``.

    Args:
        runner: the network, the images and the layer.
        relu: False keeps the negative evidence as well.

    Returns:
        Maps [batch, target, *space] in the units of the score; non-negative if ``relu``.

    Raises:
        GradientError: an operation of the network has no second derivative.

    A second backward pass computes the product of ``H`` with the layer's output (including class tokens, as in the
    author's code); ``H`` itself is never stored. Attention runs without fused kernels, which cannot be differentiated
    twice.

    >>> runner = ModelRunner.of(torch.nn.Identity(), torch.tensor([[[3.0, 1.0]]]), lambda x: x.square().sum((1, 2)))
    >>> shapleycam(runner)  # the gradient is [6, 2], and so is H A: alpha is the mean of 3 and 1
    tensor([[[6., 2.]]])
    """
    maps = []
    with counted("shapleycam", runner.size) as advance:
        for part in runner.parts(runner.size):
            samples = torch.arange(part.start, part.stop)
            captured = runner.watch(runner.image[part], samples, lambda: sdpa_kernel(SDPBackend.MATH))
            (A,) = map(at_least_float32, captured.activations.values())
            found = []
            for t in range(captured.scores.shape[1]):
                ((G, HA),) = captured.second_order(t).values()
                weights = (at_least_float32(G) - at_least_float32(HA) / 2).flatten(2).mean(2)
                found.append(combine(weights, A, relu=relu))
            maps.append(torch.stack(found, dim=1))
            advance(len(samples))
    return torch.cat(maps)
