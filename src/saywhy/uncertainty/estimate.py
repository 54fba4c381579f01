"""How uncertain a model is of its answers, told apart: what no network could know, and what this one does not."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from saywhy.engine import tree
from saywhy.engine.preserve import preserve_state
from saywhy.errors import InputError
from saywhy.models import Model
from saywhy.models.inputs import as_batch, check_words, translated
from saywhy.output import parse_output
from saywhy.shapes import at_least_float32
from saywhy.uncertainty import information
from saywhy.uncertainty.mc_samples import loaded, output_of
from saywhy.validation import real_number

Each = Float[Tensor, " batch"]


@dataclass(frozen=True)
class Uncertainty:
    """Of every sample of a batch; all float64 on the CPU. Entropies are in nats, those of yes and no added up.

    Attributes:
        probabilities: [batch, class] the mean of all guesses.
        total: the entropy of that mean, the predictive uncertainty.
        aleatoric: the mean entropy of the guesses.
        epistemic: the mutual information of answer and network; total = aleatoric + epistemic. 0 of a single guess.
        sample_variance: the variance of the guesses' probabilities, added up over classes.
        aleatoric_variance: the variance of the noise that the network expects in its logits; None where it does not
            say.
        num_samples: of how many Monte Carlo samples.
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
        """Spread and noise, as Kendall and Gal (2017, equation 9) and P-GCA of U-CAM add them."""
        return (
            self.sample_variance if self.aleatoric_variance is None else self.sample_variance + self.aleatoric_variance
        )

    @staticmethod
    def of(
        samples: Float[Tensor, "draw batch class"], aleatoric_variance: Each | None = None, multilabel: bool = False
    ) -> "Uncertainty":
        """From the probabilities of every guess.

        Args:
            samples: that add up to 1, or each of them from 0 to 1 if ``multilabel``.
            aleatoric_variance: as the attribute.
            multilabel: whether every class is a yes or no of its own.

        Raises:
            InputError: they are no probabilities.

        >>> found = Uncertainty.of(torch.tensor([[[0.9, 0.1]], [[0.5, 0.5]]]))
        >>> [round(float(value), 4) for value in (found.total, found.aleatoric, found.epistemic)]
        [0.6109, 0.5091, 0.1017]
        """
        if not isinstance(samples, Tensor) or samples.ndim != 3 or not samples.numel():
            came = list(samples.shape) if isinstance(samples, Tensor) else type(samples).__name__
            raise InputError(f"guesses are probabilities [draw, batch, class], got {came}.")
        if aleatoric_variance is not None and aleatoric_variance.shape != samples.shape[1:2]:
            raise InputError(
                f"there is noise of each of {samples.shape[1]} samples, got {list(aleatoric_variance.shape)}."
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
    """How uncertain a model is of its answers to a batch.

    A model as it is guesses once, so that all of its uncertainty is entropy. One that guesses several times is made by
    ``mc_dropout``, ``ensemble`` or ``with_augmentations`` of :mod:`saywhy.uncertainty`.

    Args:
        model, inputs: as for :func:`saywhy.explain`.
        temperature: by which logits are divided; see :func:`saywhy.uncertainty.fit_temperature`.
        seed: of whatever the network draws itself.

    Raises:
        InputError: the temperature is not positive, or a model that guesses several times has no class scores.
        TargetError: a model that guesses once has none.

    >>> from saywhy.toybox import scene
    >>> found = estimate("toybox:vqa", {"image": scene("talk-test", 1).image, "question": "do you see a green apple?"})
    >>> found.num_samples, float(found.epistemic)
    (1, 0.0)
    """
    temperature = real_number("temperature", temperature, above=0)
    known = loaded(model)
    check_words(known, inputs)
    batch = as_batch(known, inputs)
    with translated(known, batch), torch.no_grad(), preserve_state(known.module, seed=seed):
        result = tree.call(known.module, tree.escape_inference(batch.inputs))
    return of_output(result, batch.size, known, temperature)


def of_output(result: Any, samples: int, model: Model, temperature: float = 1.0) -> Uncertainty:
    """The same of what a model has put out already."""
    answer = parse_output(result, samples, model.output, labels=model.labels, multilabel=model.multilabel)
    sample_logits = output_of(result, "sample_logits")
    logits = sample_logits if isinstance(sample_logits, Tensor) else answer.logits.unsqueeze(0)
    logits = at_least_float32(logits) / temperature
    if not logits.shape[-1]:
        answer.values("logit")  # says that there are no class scores
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
        raise InputError(f"a variance in a network's output is that of noise in its logits [batch, 1], got {came}.")
    return Uncertainty.of(
        logits.double().sigmoid() if yes_or_no else logits.double().softmax(-1),
        None if aleatoric_variance is None else aleatoric_variance[:, 0],
        multilabel=yes_or_no,
    )
