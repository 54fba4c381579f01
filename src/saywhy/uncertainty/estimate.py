"""Uncertainty estimates of a model: total (predictive), aleatoric (of the data) and epistemic (of the network)."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from saywhy.engine import tree
from saywhy.engine.preserve import exclusive_run
from saywhy.errors import InputError, TargetError
from saywhy.models import Model
from saywhy.models.inputs import as_batch, check_words, translated
from saywhy.models.outputs import class_scores, settle
from saywhy.shapes import at_least_float32
from saywhy.uncertainty import information
from saywhy.uncertainty.mc_samples import as_model, output_of
from saywhy.validation import real_number

Each = Float[Tensor, " batch"]


@dataclass(frozen=True)
class Uncertainty:
    """The uncertainty of every sample of a batch, float64 on the CPU; entropies are in nats.

    For independent classes (multilabel), the binary entropies are summed over classes.

    Attributes:
        probabilities: [batch, class] the mean over Monte Carlo samples.
        total: the entropy of this mean (predictive entropy).
        aleatoric: the mean entropy of the Monte Carlo samples (expected entropy).
        epistemic: the mutual information of prediction and network; total = aleatoric + epistemic. 0 for one sample.
        sample_variance: the variance of the probabilities over Monte Carlo samples, summed over classes.
        aleatoric_variance: the variance of the noise in the logits, predicted by a variance head, in squared logits;
            None without one.
        num_samples: the number of Monte Carlo samples.
        predictive_variance: the variance of the probabilities over Monte Carlo samples and noise, summed over classes
            (Kendall and Gal, 2017, equation 9; P-GCA of U-CAM); see :func:`noisy_variance`. ``sample_variance`` without
            a variance head.
    """

    probabilities: Float[Tensor, "batch class"]
    total: Each
    aleatoric: Each
    epistemic: Each
    sample_variance: Each
    aleatoric_variance: Each | None
    num_samples: int
    predictive_variance: Each

    @staticmethod
    def of(
        samples: Float[Tensor, "draw batch class"], aleatoric_variance: Each | None = None, multilabel: bool = False
    ) -> "Uncertainty":
        """Compute the uncertainty from the probabilities of Monte Carlo samples.

        Args:
            samples: probabilities that sum to 1 over classes, or are each from 0 to 1 if ``multilabel``.
            aleatoric_variance: see the attribute.
            multilabel: whether the classes are independent.

        Raises:
            InputError: the samples are no probabilities, or the shapes do not fit.

        >>> found = Uncertainty.of(torch.tensor([[[0.9, 0.1]], [[0.5, 0.5]]]))
        >>> [round(float(value), 4) for value in (found.total, found.aleatoric, found.epistemic)]
        [0.6109, 0.5091, 0.1017]
        """
        if not isinstance(samples, Tensor) or samples.ndim != 3 or not samples.numel():
            came = list(samples.shape) if isinstance(samples, Tensor) else type(samples).__name__
            raise InputError(f"Monte Carlo samples are probabilities [draw, batch, class], got {came}.")
        if aleatoric_variance is not None and aleatoric_variance.shape != samples.shape[1:2]:
            raise InputError(
                f"aleatoric_variance must have one value for each of {samples.shape[1]} samples, got shape "
                f"{list(aleatoric_variance.shape)}."
            )
        wide = samples.detach().cpu().double()
        each = torch.stack([wide, 1 - wide], -1) if multilabel else wide
        each = information.checked_mc_samples(each)

        def summed(values: Tensor) -> Each:
            return values.sum(-1) if multilabel else values

        total, epistemic = summed(information.entropy(each.mean(0))), summed(information.mutual_information(each))
        sample_variance = information.variance(wide)
        noise = None if aleatoric_variance is None else aleatoric_variance.detach().cpu().double()
        return Uncertainty(
            probabilities=wide.mean(0),
            total=total,
            aleatoric=summed(information.expected_entropy(each)),
            epistemic=epistemic,
            sample_variance=sample_variance,
            aleatoric_variance=noise,
            num_samples=len(samples),
            predictive_variance=sample_variance if noise is None else noisy_variance(wide, noise, multilabel),
        )


def estimate(model: Any, inputs: Any, *, temperature: float = 1.0, seed: int = 0) -> Uncertainty:
    """Estimate the uncertainty of a model's predictions for a batch.

    A plain model gives one sample, so that all of its uncertainty is aleatoric (entropy). ``mc_dropout``, ``ensemble``
    and ``with_augmentations`` of :mod:`saywhy.uncertainty` make models with several samples.

    Args:
        model, inputs: as for :func:`saywhy.explain`.
        temperature: the divisor of logits; see :func:`saywhy.uncertainty.fit_temperature`.
        seed: the seed of random numbers that the network draws itself.

    Raises:
        InputError: the temperature is not positive, or a model with several samples has no class scores.
        TargetError: a plain model has no class scores.

    >>> from saywhy.toybox import scene
    >>> found = estimate("toybox:vqa", {"image": scene("talk-test", 1).image, "question": "do you see a green apple?"})
    >>> found.num_samples, float(found.epistemic)
    (1, 0.0)
    """
    temperature = real_number("temperature", temperature, above=0)
    known = as_model(model)
    check_words(known, inputs)
    batch = as_batch(known, inputs)
    with exclusive_run(known.module, seed=seed), translated(known, batch), torch.no_grad():
        result = tree.call(known.module, tree.escape_inference(batch.inputs))
    if not isinstance(output_of(result, "sample_logits"), Tensor):
        settle(known, known.output, batch, seed)
    return of_output(result, batch.size, known, temperature)


NOISE_SAMPLES = 2000
"""The number of noise samples (over all Monte Carlo samples) of :func:`noisy_variance`."""


def noisy_variance(
    samples: Float[Tensor, "draw batch class"], variance: Each, multilabel: bool = False, seed: int = 0
) -> Each:
    r"""Compute the variance of probabilities over Monte Carlo samples and noise in the logits, summed over classes.

    A variance head predicts the variance :math:`s` of Gaussian noise in the logits, in squared logits; the variance
    over Monte Carlo samples is one of probabilities. They have different units and cannot be added. The noise goes
    through the softmax instead: with :math:`y_n` the logits of sample n and :math:`p_n(\epsilon) =
    \mathrm{softmax}(y_n + \sqrt{s}\,\epsilon)`, the law of total variance gives, for every class,

    .. math:: \mathrm{Var}_{n,\epsilon}[p]
              = \underbrace{\mathrm{Var}_n\,\mathbb{E}_\epsilon[p_n(\epsilon)]}_{\text{epistemic}}
              + \underbrace{\mathbb{E}_n\,\mathrm{Var}_\epsilon[p_n(\epsilon)]}_{\text{aleatoric}}

    which is equation 9 of Kendall and Gal (2017) for probabilities instead of a regression's values. A softmax ignores
    constants, so :math:`\log p_n` stands for :math:`y_n`. For small :math:`s`, :math:`\partial p_c / \partial y_k = p_c
    (\delta_{ck} - p_k)` gives the aleatoric part :math:`s\, p_c^2 (1 - 2 p_c + \sum_k p_k^2)`; for large :math:`s` that
    would exceed the largest variance that a probability can have, so the noise is sampled (in pairs
    :math:`\pm\epsilon`, the same for all inputs).

    Args:
        samples: probabilities of Monte Carlo samples.
        variance: the variance of the noise in the logits of every input, at least 0.
        multilabel: whether the classes are independent (sigmoid instead of softmax).
        seed: the seed of the noise.

    Returns:
        The variance of every input, from 0 to 1 (to a quarter of the number of independent classes).

    >>> half = torch.full((1, 1, 2), 0.5).double()
    >>> [round(float(noisy_variance(half, torch.tensor([s]))), 3) for s in (0.0, 0.01, 1e6)]
    [0.0, 0.002, 0.5]
    """
    smallest = torch.finfo(samples.dtype).tiny
    logits = samples.clamp_min(smallest).log()
    if multilabel:
        logits = logits - (1 - samples).clamp_min(smallest).log()
    pairs = -(-NOISE_SAMPLES // (2 * len(samples)))
    generator = torch.Generator().manual_seed(seed)
    size = variance.to(samples).sqrt().unsqueeze(1)  # (batch, 1)
    centre = samples.mean(0)  # a mean that is nearly right: differences from it lose no digits
    total, squares = torch.zeros_like(centre), torch.zeros_like(centre)
    for one in logits:
        for _ in range(pairs):
            noise = torch.randn(logits.shape[2], generator=generator, dtype=samples.dtype)
            for sign in (1, -1):
                noisy = one + sign * size * noise  # (batch, class)
                change = (noisy.sigmoid() if multilabel else noisy.softmax(-1)) - centre
                total, squares = total + change, squares + change.square()
    count = 2 * pairs * len(samples)
    return (squares / count - (total / count).square()).clamp_min(0).sum(-1)


def of_output(result: Any, samples: int, model: Model, temperature: float = 1.0) -> Uncertainty:
    """Estimate the uncertainty from a model's output that was already computed."""
    sample_logits = output_of(result, "sample_logits")
    if not isinstance(sample_logits, Tensor):
        output = class_scores(model, model.output, samples, result)
        output.check_classes()
        if output.scale == "value" and output.logits.shape[1] > 1:
            raise TargetError(
                f"the network's output [batch, {output.logits.shape[1]}] holds values that are no class scores, so "
                "it has no probabilities. If they are logits, say so: saywhy.load(network, scale='logit')."
            )
        sample_logits = output.log_probabilities().unsqueeze(0)
    logits = at_least_float32(sample_logits) / temperature
    yes_or_no = model.multilabel or logits.shape[-1] == 1
    aleatoric_variance = output_of(result, "variance")
    if aleatoric_variance is not None and (
        not isinstance(aleatoric_variance, Tensor) or aleatoric_variance.shape != (samples, 1)
    ):
        came = (
            list(aleatoric_variance.shape)
            if isinstance(aleatoric_variance, Tensor)
            else type(aleatoric_variance).__name__
        )
        raise InputError(
            f"the variance in a network's output must be that of the noise in its logits [batch, 1], got {came}."
        )
    return Uncertainty.of(
        logits.double().sigmoid() if yes_or_no else logits.double().softmax(-1),
        None if aleatoric_variance is None else aleatoric_variance[:, 0],
        multilabel=yes_or_no,
    )
