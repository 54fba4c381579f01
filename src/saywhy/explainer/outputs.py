"""The scores of targets, from a model's output."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from saywhy.engine import tree
from saywhy.engine.memory import out_of_memory
from saywhy.errors import SaywhyError, TargetError, first_line
from saywhy.explainer.config import ExplainConfig
from saywhy.models import Model
from saywhy.models.outputs import class_scores
from saywhy.output import ModelOutput, NoClassScores, ScoreKind, shown_score
from saywhy.targets import Target, TargetScores


def model_output(
    model: Model, config: ExplainConfig, samples: int, raw: Any, score: ScoreKind = "logit"
) -> ModelOutput:
    """The class scores in a model's output for ``samples`` samples; ``score`` is their kind if the request names none.

    Raises:
        TargetError: ``config.output`` leads nowhere.
        WeightsError: the scores are NaN or infinite.
    """
    found = class_scores(model, config.output, samples, raw)
    if isinstance(found, NoClassScores):
        return replace(found, score=config.score or score)
    return replace(found, score=shown_score(found.scale, config.score, score))


def target_scores(target: Target, output: ModelOutput) -> TargetScores:
    """The scores of a target for a batch, checked.

    Raises:
        TargetError: the target does not fit the output, its code fails, or a score is NaN or infinite.
    """
    try:
        found = target.evaluate(output)
    except (SaywhyError, tree.CallFailed):
        raise
    except Exception as error:
        if out_of_memory(error):
            raise
        raise TargetError(
            f"the target {type(target).__name__} failed: {type(error).__name__}: {first_line(error)}."
        ) from error
    scores = found.scores.detach()
    if not bool(torch.isfinite(scores).all()):
        sample, index = (~torch.isfinite(scores)).nonzero()[0].tolist()
        raise TargetError(
            f"the score of '{found.names[sample][index]}' is {float(scores[sample, index])} for sample {sample}: "
            "there is nothing to explain. A target must be finite for every image that is shown to the network, "
            "altered ones included; is there a division, logarithm or root of zero in it?"
        )
    return found


def target_probabilities(output: ModelOutput, scores: TargetScores) -> Tensor | None:
    """The probability of every target that is one class, NaN for the others; None without classes."""
    classes = scores.classes
    if bool((classes < 0).all()) or not output.logits.shape[1] or output.scale == "value":
        return None
    values = output.values("probability").detach().float().cpu()
    return values.gather(1, classes.clamp_min(0)).masked_fill(classes < 0, float("nan"))
