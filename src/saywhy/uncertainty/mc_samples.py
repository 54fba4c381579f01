"""Monte Carlo samples: the output of a network with several predictions for one input (dropout, ensemble, …)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saywhy.errors import InputError
from saywhy.models import Model, load
from saywhy.output import ModelOutput, NoClassScores, OutputScale, known_classes, parse_output, scale_of
from saywhy.output.scale import normalized
from saywhy.shapes import at_least_float32


@dataclass(frozen=True)
class MCSamples:
    """Monte Carlo samples for a batch, and their mean prediction.

    Attributes:
        logits: [batch, class] the logits of the mean probabilities.
        sample_logits: the logits of each Monte Carlo sample, [draw, batch, class].
        variance: the variance of the noise in the logits, the mean over draws [batch, 1]; None without a variance head.
        attention: the network's attention, the mean over draws [batch, glimpse, row, column]; None without attention.
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
    scale: OutputScale | None = None,
) -> MCSamples:
    """Make :class:`MCSamples` from the class scores of each sample.

    Args:
        sample_logits: the class scores, [draw, batch, class].
        multilabel: whether the classes are independent.
        variances, attention: of each sample, with the batch first.
        scale: what the scores are; None finds it. Probabilities become logits, so that they are not squashed twice.

    Raises:
        InputError: the logits have no classes.

    >>> as_mc_samples(torch.tensor([[[0.0, 9.0]], [[0.0, -9.0]]]), multilabel=False).logits.softmax(1)
    tensor([[0.5000, 0.5000]])
    """
    if not sample_logits.shape[-1]:
        raise InputError("uncertainty needs class scores [batch, class], and the network's output has none.")
    fine = as_logits(sample_logits, multilabel, scale)
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


def as_logits(scores: Tensor, multilabel: bool, scale: OutputScale | None = None) -> Tensor:
    """Return class scores [*batch, class] as logits in at least float32: probabilities become their logarithms.

    Args:
        scores: logits, or probabilities of a network that ends in a softmax or sigmoid.
        multilabel: whether the classes are independent.
        scale: what the scores are; None finds it from the graph; without a graph from the values of several samples.

    >>> as_logits(torch.tensor([[0.25, 0.75], [0.5, 0.5]]), multilabel=False).softmax(-1)
    tensor([[0.2500, 0.7500],
            [0.5000, 0.5000]])
    """
    fine = at_least_float32(scores)
    rows = fine.flatten(0, -2)
    scale = scale or scale_of(rows)
    if scale is None:
        scale = normalized(rows) if len(rows) > 1 else None
        independent = (multilabel or rows.shape[1] == 1) and rows.numel() >= _ENOUGH
        scale = scale or ("probability" if independent else "logit")
    return ModelOutput(rows, multilabel=multilabel, scale=scale).log_probabilities().unflatten(0, fine.shape[:-1])


_ENOUGH = 16
"""So many numbers from 0 to 1, without one beyond, are no logits."""


def output_of(result: Any, name: str) -> Any:
    """Return the entry or attribute of a network's output with a name; None if there is none.

    >>> output_of({"logits": 3}, "logits"), output_of(4, "logits")
    (3, None)
    """
    return result.get(name) if isinstance(result, Mapping) else getattr(result, name, None)


def single_output(result: Any, network: nn.Module) -> Any:
    """Return a network's output after checking that it is a single prediction.

    Raises:
        InputError: the network returns Monte Carlo samples itself, whose disagreement would be lost.
    """
    if output_of(result, "sample_logits") is not None:
        raise InputError(
            f"{type(network).__name__} returns several Monte Carlo samples already, and nested samples are not "
            "supported. Pass the network inside it."
        )
    return result


def single_scores(result: Any, samples: int, path: str | int | None, network: nn.Module) -> Tensor:
    """Return the class scores [batch, class] in a network's output; [batch, 0] if it has none.

    Raises:
        TargetError: several tensors of the output may be its class scores, or its names say that none is.
    """
    found = parse_output(result, samples, path, None if path is not None else known_classes(network))
    if isinstance(found, NoClassScores) and found.reason:
        raise found.refusal()
    return found.logits


def output_batch_size(result: Any, samples: int) -> int:
    """Return the batch size of an output: that of the inputs, or a multiple of it where a hook lengthened the batch.

    >>> output_batch_size(torch.zeros(6, 4), 2), output_batch_size({"logits": torch.zeros(2, 4)}, 2)
    (6, 2)
    """
    logits = result if isinstance(result, Tensor) else output_of(result, "logits")
    fits = isinstance(logits, Tensor) and logits.ndim == 2 and len(logits) and len(logits) % samples == 0
    return len(logits) if fits else samples


def as_model(model: "str | nn.Module | Model") -> Model:
    """Return a :class:`saywhy.models.Model`, loaded if necessary."""
    return model if isinstance(model, Model) else load(model)


def wrapped_layer(layer: Any) -> Any:
    """Return the name of a layer in a module that holds its network as ``network``.

    >>> wrapped_layer("features"), wrapped_layer(None)
    ('network.features', None)
    """
    return f"network.{layer}" if isinstance(layer, str) else layer
