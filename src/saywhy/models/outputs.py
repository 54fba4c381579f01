"""Reading a model's output: where the class scores are and on which scale, found once for a network."""

import math
import warnings
from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from saywhy.engine import tree
from saywhy.engine.preserve import exclusive_run
from saywhy.errors import SaywhyError, SaywhyWarning, WeightsError
from saywhy.models.inputs import Batch
from saywhy.models.model import Model
from saywhy.models.weights import check_finite
from saywhy.output import ModelOutput, NoClassScores, OutputScale, parse_output
from saywhy.output.find import Leaf, known_classes, leaves, locate
from saywhy.output.scale import normalized, scale_of, within_unit


@dataclass(frozen=True)
class _Reading:
    """How a model's output is read: where the class scores are, and on which scale (None: it has no class scores)."""

    path: str | int | None = None
    scale: OutputScale | None = None


_readings: "WeakKeyDictionary[nn.Module, dict[Hashable, dict[Hashable, _Reading]]]" = WeakKeyDictionary()
"""By network, by its modules and settings, by the form of the output."""


def class_scores(model: Model, path: str | int | None, samples: int, raw: Any) -> ModelOutput:
    """The class scores in a model's output for ``samples`` samples.

    Where they are and on which scale is found once for a network; see :func:`settle`.

    Args:
        model: the model.
        path: where the class scores are (``output=``); None finds them.
        samples: the size of the batch.
        raw: the model's return value.

    Raises:
        TargetError: ``path`` leads nowhere.
        WeightsError: the scores are NaN or infinite.
    """
    known, form = _memo(model, path), _form(raw)
    reading = known.get(form)
    found = _parsed(model, path, samples, raw, reading)
    if not bool(torch.isfinite(found.logits.detach()).all()):
        raise WeightsError(_not_finite_message(model, found.logits.detach()))
    if isinstance(found, NoClassScores):
        known.setdefault(form, _Reading())
        return found
    scale = reading.scale if reading is not None else None
    if scale is None:
        shown = model.scale or _scale_of(raw, found.logits)
        scale = _declared(model, found, shown or normalized(found.logits))
        if shown is not None:
            known[form] = _Reading(_path(model, path, samples, raw), scale)
            _warn_of_labels(model, found)
    elif scale == "probability" and model.scale is None and not within_unit(found.logits.detach()):
        warnings.warn(
            f"outputs of {model.name} that were taken as probabilities are beyond 0 to 1: from now on they are taken "
            "as values, and what was explained before was a value too. saywhy.load(network, scale='value') says so.",
            SaywhyWarning,
            stacklevel=5,
        )
        scale, known[form] = "value", _Reading(reading.path if reading is not None else None, "value")
    return replace(found, scale=scale)


def settled(model: Model, path: str | int | None) -> bool:
    """Whether it is known what a network returns."""
    return bool(_memo(model, path))


def settle(model: Model, path: str | int | None, batch: Batch, seed: int = 0) -> None:
    """Find out what a network returns, from one sample with a graph; nothing is done if it is known already.

    Passes without a graph then read the output in the same way. Where the graph does not show how the output was
    normalised, altered images tell: rows that sum to 1 for all of them are probabilities. Where the scores are and
    their scale are declared, there is nothing to find.
    """
    known = _memo(model, path)
    if known or (model.scale is not None and path is not None):
        return
    first = torch.tensor([0], device=tree.image_tensor(batch.inputs).device)
    sample = tree.select(tree.escape_inference(batch.inputs), first)
    try:
        with exclusive_run(model.module, seed=seed), torch.inference_mode(False), torch.enable_grad():
            raw = tree.call(model.module, tree.map_tensors(sample, _with_graph))
            found = class_scores(model, path, 1, raw)
            if known or isinstance(found, NoClassScores):
                return
            logits = torch.cat([found.logits.detach(), *_altered_outputs(model, path, sample)])
    except (SaywhyError, RuntimeError):
        return  # the request's own pass raises the error, with its message
    scale = normalized(logits)
    if scale is None and within_unit(logits):
        scale = "probability"
        warnings.warn(
            f"all outputs of {model.name} lie between 0 and 1 but do not sum to 1, and its graph does not show why. "
            "They are taken as probabilities. If they are something else, say so: "
            "saywhy.load(network, scale='logit') or scale='value'.",
            SaywhyWarning,
            stacklevel=5,
        )
    known[_form(raw)] = _Reading(_path(model, path, 1, raw), _declared(model, found, scale))


def _memo(model: Model, path: str | int | None) -> dict[Hashable, _Reading]:
    """What is known of a network as it is built now, with a path of the class scores."""
    parts: list[int] = []
    _add_ids(model.module, parts)
    key = (tuple(parts), path, model.scale, model.multilabel, len(model.labels or ()))
    known = _readings.setdefault(model.module, {})
    if key not in known and len(known) > 8:
        known.clear()  # heads that were replaced
    return known.setdefault(key, {})


def _add_ids(module: nn.Module, found: list[int]) -> None:
    """The ids of a module and of those inside it; faster than a traversal that finds each one once."""
    found.append(id(module))
    for child in module._modules.values():
        if child is not None:
            _add_ids(child, found)


def _form(raw: Any) -> Hashable:
    """The form of an output: names and axes, and the number of classes."""
    if isinstance(raw, Tensor):
        return raw.ndim, raw.shape[1:2]
    return tuple((leaf.path, leaf.tensor.ndim) for leaf in leaves(raw))


def _parsed(model: Model, path: str | int | None, samples: int, raw: Any, reading: _Reading | None) -> ModelOutput:
    found = reading is not None and reading.scale is not None
    path = path if path is not None or reading is None else reading.path
    known = None if found else known_classes(model.module)
    return parse_output(raw, samples, path, known, labels=model.labels, multilabel=model.multilabel)


def _path(model: Model, path: str | int | None, samples: int, raw: Any) -> str | int | None:
    """The path of the class scores that were found; "" is the output itself."""
    if path is not None:
        return path
    found = locate(raw, samples, len(model.labels or ()), known_classes(model.module))
    return found.path if isinstance(found, Leaf) else None


def _declared(model: Model, found: ModelOutput, scale: OutputScale | None) -> OutputScale:
    """The scale, where unbounded outputs may be those of a regression: one number without labels is no class score."""
    if model.scale is not None:
        return model.scale
    if scale in (None, "logit"):
        problem = getattr(getattr(model.module, "config", None), "problem_type", None)
        single = found.logits.shape[1] == 1 and not model.labels and not model.multilabel
        return "value" if single or problem == "regression" else "logit"
    assert scale is not None
    return scale


def _scale_of(raw: Any, logits: Tensor) -> OutputScale | None:
    """The scale of class scores; those of Monte Carlo samples are known from how they were made."""
    if getattr(raw, "sample_logits", None) is not None:
        return normalized(logits) or "logit"
    return scale_of(logits)


def _with_graph(t: Tensor) -> Tensor:
    return t.detach().requires_grad_().clone() if t.is_floating_point() else t


def _altered_outputs(model: Model, path: str | int | None, sample: Any) -> list[Tensor]:
    """The outputs for altered images: noise, the negative, more and less contrast."""
    image = tree.image_tensor(sample)
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0)).to(image)
    found = []
    for altered in (noise, -image, 3 * image, image + noise, 0.1 * image):
        with torch.no_grad():
            raw = tree.call(model.module, tree.replace_tensor(sample, image, altered))
        found.append(class_scores(model, path, 1, raw).logits)
    return found


def _warn_of_labels(model: Model, found: ModelOutput) -> None:
    """Warn if there are more labels than classes; without a label a class is shown by its index."""
    if model.labels and len(model.labels) > found.logits.shape[1]:
        warnings.warn(
            f"{model.name} gives {found.logits.shape[1]} classes, but has {len(model.labels)} labels: they may belong "
            "to another model. Give one label a class, or choose the right tensor with output=.",
            SaywhyWarning,
            stacklevel=6,
        )


def _not_finite_message(model: Model, logits: Tensor) -> str:
    broken = check_finite(model.module)
    if broken is not None:
        return f"the model's output is NaN or infinite, because its weight '{broken}' is. Load other weights."
    dtype = str(model.dtype).removeprefix("torch.")
    finite = torch.isfinite(logits)
    classes = (~finite).any(0).nonzero().flatten().tolist()
    if bool((finite | (logits == -math.inf)).all()) and len(classes) < logits.shape[1]:
        return (
            f"the model's output is -infinity for {len(classes)} of {logits.shape[1]} classes (the first is class "
            f"{classes[0]}). A network that masks classes is explained if it gives them a large negative number "
            f"instead: out.clamp(min=-1e4). Otherwise, is {dtype} precise enough for it?"
        )
    return (
        f"the model's output is NaN or infinite for {len(classes)} of {logits.shape[1]} classes, although its weights "
        f"are finite. Is the input preprocessed as the model expects, and is {dtype} precise enough for it?"
    )
