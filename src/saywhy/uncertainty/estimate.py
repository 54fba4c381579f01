"""Uncertainty estimates of a model: total (predictive), aleatoric (of the data) and epistemic (of the network)."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from saywhy.engine import tree
from saywhy.engine.preserve import exclusive_run
from saywhy.errors import InputError
from saywhy.models import Model
from saywhy.models.inputs import as_batch, check_words, translated
from saywhy.output import parse_output
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
        aleatoric_variance: the variance of the noise in the logits, predicted by a variance head; None without one.
        num_samples: the number of Monte Carlo samples.
    """

    probabilities: Float[Tensor, "batch class"]
    total: Each
    aleatoric: Each
    epistemic: Each
    sample_variance: Each
    aleatoric_variance: Each | None
    num_samples: int

    @property
    def predictive_variance(self) -> Each:
        """The predictive variance: sample variance plus aleatoric variance (Kendall and Gal, 2017, equation 9; P-GCA of
        U-CAM)."""
        return (
            self.sample_variance if self.aleatoric_variance is None else self.sample_variance + self.aleatoric_variance
        )

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
        return Uncertainty(
            probabilities=wide.mean(0),
            total=total,
            aleatoric=summed(information.expected_entropy(each)),
            epistemic=epistemic,
            sample_variance=information.variance(wide),
            aleatoric_variance=None if aleatoric_variance is None else aleatoric_variance.detach().cpu().double(),
            num_samples=len(samples),
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
    return of_output(result, batch.size, known, temperature)


def of_output(result: Any, samples: int, model: Model, temperature: float = 1.0) -> Uncertainty:
    """Estimate the uncertainty from a model's output that was already computed."""
    output = parse_output(result, samples, model.output, labels=model.labels, multilabel=model.multilabel)
    sample_logits = output_of(result, "sample_logits")
    logits = sample_logits if isinstance(sample_logits, Tensor) else output.logits.unsqueeze(0)
    logits = at_least_float32(logits) / temperature
    if not logits.shape[-1]:
        output.values("logit")  # raises: there are no class scores
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
