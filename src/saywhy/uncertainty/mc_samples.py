"""What a network outputs that guesses several times, whatever makes its guesses differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saywhy.errors import InputError
from saywhy.models import Model, load
from saywhy.shapes import at_least_float32


@dataclass(frozen=True)
class MCSamples:
    """Several guesses of the same samples, and the answer that they have in common.

    Attributes:
        logits: [batch, class] whose probabilities are the mean of the guesses'.
        sample_logits: the logits of each, [draw, batch, class].
        variance: of the noise that the network expects in its logits, the mean over guesses [batch, 1]; None where it
            does not say.
        attention: where the network says that it looked, the mean over guesses [batch, glimpse, row, column]; or None.
    """

    logits: Float[Tensor, "batch class"]
    sample_logits: Float[Tensor, "draw batch class"]
    variance: Float[Tensor, "batch 1"] | None = None
    attention: Float[Tensor, "batch glimpse row column"] | None = None


def as_mc_samples(
    sample_logits: Float[Tensor, "draw batch class"],
    multilabel: bool,
    variances: Sequence[Tensor] = (),
    attention: Sequence[Tensor] = (),
) -> MCSamples:
    """The output for the logits of several guesses.

    Raises:
        InputError: there is no class that could be guessed.

    >>> as_mc_samples(torch.tensor([[[0.0, 9.0]], [[0.0, -9.0]]]), multilabel=False).logits.softmax(1)
    tensor([[0.5000, 0.5000]])
    """
    if not sample_logits.shape[-1]:
        raise InputError("uncertainty is of class scores [batch, class], and the network's output has none.")
    fine = at_least_float32(sample_logits)
    if multilabel or sample_logits.shape[-1] == 1:
        yes, no = (torch.nn.functional.logsigmoid(sign * fine).logsumexp(0) for sign in (1, -1))
        logits = yes - no
    else:
        logits = fine.log_softmax(-1).logsumexp(0) - torch.tensor(float(len(fine))).log().to(fine)
    return MCSamples(
        logits,
        fine,
        torch.stack(list(variances)).mean(0) if variances else None,
        torch.stack(list(attention)).mean(0) if attention else None,
    )


def output_of(result: Any, name: str) -> Any:
    """What a network's output has under a name; None where it has nothing.

    >>> output_of({"logits": 3}, "logits"), output_of(4, "logits")
    (3, None)
    """
    return result.get(name) if isinstance(result, Mapping) else getattr(result, name, None)


def asked_once(result: Any, network: nn.Module) -> Any:
    """What a network answers, if it is one answer.

    Raises:
        InputError: it guesses several times itself; what these guesses disagree about would be lost.
    """
    if output_of(result, "sample_logits") is not None:
        raise InputError(
            f"{type(network).__name__} guesses several times already; guesses of guesses are not told apart. Ask the "
            "network that it asks."
        )
    return result


def length_of(result: Any, samples: int) -> int:
    """Of how many samples an output is: those that were asked, or a multiple of these where a hook made them more.

    >>> length_of(torch.zeros(6, 4), 2), length_of({"logits": torch.zeros(2, 4)}, 2)
    (6, 2)
    """
    logits = result if isinstance(result, Tensor) else output_of(result, "logits")
    fits = isinstance(logits, Tensor) and logits.ndim == 2 and len(logits) and len(logits) % samples == 0
    return len(logits) if fits else samples


def loaded(model: "str | nn.Module | Model") -> Model:
    """A model, loaded if it is not yet."""
    return model if isinstance(model, Model) else load(model)


def inside(layer: Any) -> Any:
    """What a layer of a network is called in a module that holds it under the name network.

    >>> inside("features"), inside(None)
    ('network.features', None)
    """
    return f"network.{layer}" if isinstance(layer, str) else layer
