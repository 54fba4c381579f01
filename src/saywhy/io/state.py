"""The state of an explanation: a record for JSON and named arrays, from which every file format is made."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from saywhy.diagnostics import Diagnostic
from saywhy.errors import InputError
from saywhy.explanation import Explanation, Metadata
from saywhy.images import SourceImage

FORMAT = "saywhy-explanation/1"
"""The version of the record and array names; files of another version are refused."""

Arrays = dict[str, NDArray[Any]]


def to_state(explanation: Explanation) -> tuple[dict[str, Any], Arrays]:
    """The record, and the arrays by name: classes, scores, maps, completeness errors, pixels."""
    tensors: dict[str, Tensor] = {"classes": explanation.classes, "scores": explanation.scores}
    if explanation.probabilities is not None:
        tensors["probabilities"] = explanation.probabilities
    for method, layer in explanation.pairs:
        tensors[f"maps/{method}/{layer}"] = explanation[method, layer]
    for (method, layer), error in explanation.completeness_errors.items():
        tensors[f"completeness_errors/{method}/{layer}"] = error
    arrays = {name: _to_numpy(tensor) for name, tensor in tensors.items()}
    for i, source in enumerate(explanation.images):
        arrays[f"image/{i}"] = np.asarray(source.image)
        if source.values is not None:
            arrays[f"values/{i}"] = source.values
    record = {
        "format": FORMAT,
        "methods": explanation.methods,
        "layers": explanation.layers,
        "pairs": explanation.pairs,
        "targets": explanation.targets,
        "score": explanation.score,
        "input_size": explanation.input_size,
        "dtypes": {name: str(tensor.dtype).removeprefix("torch.") for name, tensor in tensors.items()},
        "images": [{"name": source.name, "crop_box": source.crop_box} for source in explanation.images],
        "diagnostics": [
            [[[(d.name, d.state, d.text) for d in of_map] for of_map in row] for row in explanation.diagnostics[pair]]
            for pair in explanation.pairs
        ],
        "provenance": explanation.provenance,
    }
    return record, arrays


def from_state(record: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Explanation:
    """The explanation of a record and its arrays.

    Raises:
        InputError: the record has another format.
        KeyError, TypeError, ValueError: an entry is missing or of the wrong type.
    """
    if record.get("format") != FORMAT:
        raise InputError(
            f"the format is {record.get('format', 'none')!r}, and this version of saywhy reads {FORMAT!r}. Explain "
            "once more, or read it with the version that wrote it."
        )

    def tensor(name: str) -> Tensor:
        return torch.from_numpy(np.array(arrays[name])).to(getattr(torch, record["dtypes"][name]))

    pairs = [(method, layer) for method, layer in record["pairs"]]
    images = tuple(
        SourceImage(
            about["name"], Image.fromarray(arrays[f"image/{i}"]), _box(about["crop_box"]), arrays.get(f"values/{i}")
        )
        for i, about in enumerate(record["images"])
    )
    diagnostics = {
        pair: [[tuple(Diagnostic(*one) for one in of_map) for of_map in row] for row in rows]
        for pair, rows in zip(pairs, record["diagnostics"], strict=True)
    }
    return Explanation(
        methods=tuple(record["methods"]),
        layers=tuple(record["layers"]),
        targets=[list(row) for row in record["targets"]],
        classes=tensor("classes"),
        scores=tensor("scores"),
        score=record["score"],
        probabilities=tensor("probabilities") if "probabilities" in arrays else None,
        input_size=tuple(record["input_size"]),
        values={(m, layer): tensor(f"maps/{m}/{layer}") for m, layer in pairs},
        completeness_errors={
            (m, layer): tensor(f"completeness_errors/{m}/{layer}")
            for m, layer in pairs
            if f"completeness_errors/{m}/{layer}" in arrays
        },
        metadata=Metadata(images, diagnostics, dict(record["provenance"])),
    )


def _box(edges: Any) -> Any:
    left, top, right, bottom = (float(edge) for edge in edges)
    if not all(map(math.isfinite, (left, top, right, bottom))):
        raise ValueError(f"a crop box must be finite, got {edges}")
    return left, top, right, bottom


def _to_numpy(tensor: Tensor) -> NDArray[Any]:
    """A tensor as a numpy array; bfloat16, which numpy lacks, becomes float32."""
    found = tensor.detach().cpu()
    return (found.float() if found.dtype == torch.bfloat16 else found).numpy()
