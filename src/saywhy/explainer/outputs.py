"""Class scores from a model's output, and the probabilities of targets."""

from typing import Any

import torch
from torch import Tensor

from saywhy.errors import WeightsError
from saywhy.explainer.config import ExplainConfig
from saywhy.models import Model
from saywhy.models.weights import check_finite
from saywhy.output import ModelOutput, ScoreKind, parse_output
from saywhy.targets import TargetScores


def model_output(
    model: Model, config: ExplainConfig, samples: int, raw: Any, score: ScoreKind = "logit"
) -> ModelOutput:
    """The class scores in a model's output for ``samples`` samples.

    Raises:
        TargetError: ``config.output`` leads nowhere.
        WeightsError: the scores are NaN or infinite.
    """
    found = parse_output(
        raw,
        samples,
        config.output,
        labels=model.labels,
        multilabel=model.multilabel,
        score=config.score or score,
    )
    if not bool(torch.isfinite(found.logits.detach()).all()):
        raise WeightsError(_not_finite_message(model))
    return found


def target_probabilities(output: ModelOutput, scores: TargetScores) -> Tensor | None:
    """The probability of every target that is one class, NaN for the others; None without classes."""
    classes = scores.classes
    if bool((classes < 0).all()) or not output.logits.shape[1]:
        return None
    values = output.values("probability").detach().float().cpu()
    return values.gather(1, classes.clamp_min(0)).masked_fill(classes < 0, float("nan"))


def _not_finite_message(model: Model) -> str:
    broken = check_finite(model.module)
    if broken is not None:
        return f"the model's output is NaN or infinite, because its weight '{broken}' is. Load other weights."
    return (
        "the model's output is NaN or infinite, although its weights are finite. Is the input preprocessed as the "
        f"model expects, and is {str(model.dtype).removeprefix('torch.')} precise enough for it?"
    )
