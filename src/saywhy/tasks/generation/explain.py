"""Explanations of several texts of one image, and the files of results of tasks that generate text."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from saywhy.errors import InputError
from saywhy.explain import explain
from saywhy.explanation import Explanation, Metadata
from saywhy.metrics.diversity import map_distance
from saywhy.models import Model
from saywhy.models.inputs import SEPARATOR, Batch, as_batch
from saywhy.shapes import Scores
from saywhy.targets import Sentence


def one_image(model: Model, image: Any) -> Batch:
    """Return a batch of one image, without a text.

    Raises:
        InputError: there are several images.
    """
    batch: Batch = as_batch(replace(model, texts={}), image)
    if batch.size != 1:
        name = next(iter(model.texts), "caption")
        raise InputError(
            f"expected one image, got {batch.size}. Explain the images one by one, or give a {name} for each: "
            f"explain(model, {{'image': […], '{name}': […]}}, [Sentence(), Words()])."
        )
    return batch


def side_by_side(found: Explanation, texts: Sequence[str], unavailable: str) -> Explanation:
    """Return the first targets of several samples, texts of the same image, as the targets of one sample.

    Args:
        found: the explanation, one sample a text; its first target is the whole text.
        texts: the names of the targets.
        unavailable: why the result has no model to run again.
    """
    metadata = Metadata(
        images=lambda: (replace(found.images[0], name=found.images[0].name.partition(SEPARATOR)[0]),),
        diagnostics=lambda: {pair: [[row[0] for row in found.diagnostics[pair]]] for pair in found.pairs},
        provenance=lambda: found.provenance,
    )
    return replace(
        found,
        targets=[list(texts)],
        classes=found.classes[:, :1].mT,
        scores=found.scores[:, :1].mT,
        values={pair: found[pair][:, :1].transpose(0, 1) for pair in found.pairs},
        completeness_errors={pair: error[:, :1].mT for pair, error in found.completeness_errors.items()},
        metadata=metadata,
        rerunner=None,
        unavailable=unavailable,
    )


def of_sample(found: Explanation, sample: int, unavailable: str) -> Explanation:
    """Return the explanation of one of several samples, without the empty targets of texts of fewer words.

    Args:
        found: the explanation of several samples.
        sample: the index of the sample.
        unavailable: why the result has no model to run again.
    """
    names = [name for name in found.targets[sample] if name]
    part, count = slice(sample, sample + 1), len(names)
    metadata = Metadata(
        images=lambda: found.images[part],
        diagnostics=lambda: {pair: [found.diagnostics[pair][sample][:count]] for pair in found.pairs},
        provenance=lambda: found.provenance,
    )
    return replace(
        found,
        targets=[names],
        classes=found.classes[part, :count],
        scores=found.scores[part, :count],
        values={pair: found[pair][part, :count] for pair in found.pairs},
        completeness_errors={pair: error[part, :count] for pair, error in found.completeness_errors.items()},
        metadata=metadata,
        rerunner=None,
        unavailable=unavailable,
    )


def explain_texts(
    model: Model, image: Any, texts: Sequence[str], method: str | Sequence[str], unavailable: str, **settings: Any
) -> Explanation:
    """Explain several texts of one image, as the targets of one sample.

    Args:
        model: a model that takes an image and a text.
        image: one image, or a batch of one.
        texts: the texts, each once.
        method, settings: as for :func:`saywhy.explain`.
        unavailable: why the result has no model to run again.

    Raises:
        InputError: the model takes no text, or there are several images.
    """
    model.image_and_text_names()
    found = explain(model, one_image(model, image).with_texts(model, texts), Sentence(), method, **settings)
    return side_by_side(found, texts, unavailable)


def map_distances(explanation: Explanation) -> dict[tuple[str, str], Scores]:
    """Return the mean distance between the maps of the targets, [batch, 1], by method and layer; {} for one target.

    See :func:`saywhy.metrics.diversity.map_distance`.
    """
    if len(explanation.targets[0]) < 2:
        return {}
    return {pair: map_distance(explanation[pair]) for pair in explanation.pairs}


def load_result(file: Path, kind: str) -> tuple[Explanation, dict[str, Any]]:
    """Read the explanation and the fields of a result of this kind.

    Raises:
        InputError: the file is missing, or holds no such result.
    """
    explanation, task = resolve_name("saywhy.io.npz:load_with_task")(file)
    if not isinstance(task, dict) or task.get("kind") != kind:
        raise InputError(f"'{file}' holds no {kind}. Read it with saywhy.Explanation.load.")
    return explanation, task
