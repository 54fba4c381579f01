"""The state of an explanation: a record for JSON and named arrays, from which every file format is made."""

import math
from collections.abc import Mapping
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from saywhy.diagnostics import Diagnostic, DiagnosticState
from saywhy.errors import InputError
from saywhy.explanation import Explanation, Metadata
from saywhy.images import MOST_PIXELS, SourceImage
from saywhy.output import ShownScore

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
    if record.get("format") != FORMAT:  # a record that is no object has no such method: AttributeError
        raise InputError(
            f"the format is {record.get('format', 'none')!r}, and this version of saywhy reads {FORMAT!r}. Explain "
            "once more, or read it with the version that wrote it."
        )

    def tensor(name: str) -> Tensor:
        dtype = getattr(torch, record["dtypes"][name])
        if not isinstance(dtype, torch.dtype):
            raise ValueError(f"the type of '{name}' is none of torch")
        return torch.from_numpy(np.array(arrays[name])).to(dtype)

    pairs = [(method, layer) for method, layer in record["pairs"]]
    images = tuple(
        SourceImage(
            str(about["name"]), _image(arrays[f"image/{i}"]), _box(about["crop_box"]), arrays.get(f"values/{i}")
        )
        for i, about in enumerate(record["images"])
    )
    diagnostics = {
        pair: [[tuple(Diagnostic(*one) for one in of_map) for of_map in row] for row in rows]
        for pair, rows in zip(pairs, record["diagnostics"], strict=True)
    }
    found = Explanation(
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
    _check(found)
    return found


def _check(e: Explanation) -> None:
    """Check that the parts of an explanation fit together.

    Raises:
        ValueError: they do not; the message says which.
    """
    batch, count = len(e.targets), len(e.targets[0]) if e.targets else 0
    of_maps = [e.scores, e.classes, *e.completeness_errors.values()]
    of_maps += [] if e.probabilities is None else [e.probabilities]
    words = [*e.methods, *e.layers, *(name for row in e.targets for name in row)]
    rows = [row for by_sample in e.diagnostics.values() for row in by_sample]
    notes = [note for row in rows for of_map in row for note in of_map]
    holds = {
        "targets are a name for each map": batch > 0 and count > 0 and all(len(row) == count for row in e.targets),
        "names are texts": all(isinstance(word, str) for word in words),
        "maps are of the named methods and layers": bool(e.values)
        and {m for m, _ in e.pairs} == set(e.methods)
        and {layer for _, layer in e.pairs} == set(e.layers),
        "maps are numbers [batch, target, *space]": all(
            t.is_floating_point() and t.ndim > 2 and t.shape[:2] == (batch, count) and t.numel()
            for t in e.values.values()
        ),
        "scores and classes are numbers [batch, target]": all(t.shape == (batch, count) for t in of_maps)
        and e.scores.is_floating_point()
        and not e.classes.is_floating_point(),
        "the score is of a known kind": e.score in get_args(ShownScore),
        "the input has a size in pixels": bool(e.input_size)
        and all(type(n) is int and n > 0 for n in e.input_size)
        and math.prod(e.input_size) <= MOST_PIXELS,
        "every sample has an image": len(e.images) == batch,
        "values are numbers": all(s.values is None or s.values.dtype.kind == "f" for s in e.images),
        "every map has diagnostics": all(len(by_sample) == batch for by_sample in e.diagnostics.values())
        and all(len(row) == count for row in rows)
        and all(isinstance(text, str) for note in notes for text in (note.name, note.text))
        and all(note.state in get_args(DiagnosticState) for note in notes),
    }
    wrong = next((what for what, true in holds.items() if not true), None)
    if wrong is not None:
        raise ValueError(f"expected that {wrong}")


def _image(pixels: NDArray[Any]) -> Image.Image:
    """An image of pixels [height, width, 3]."""
    if pixels.ndim != 3 or pixels.dtype != np.uint8 or not pixels.size or pixels.shape[2] != 3:
        raise ValueError(f"an image must be bytes [height, width, 3], got {pixels.dtype} {list(pixels.shape)}")
    return Image.fromarray(pixels)


def _box(edges: Any) -> Any:
    left, top, right, bottom = (float(edge) for edge in edges)
    if not all(map(math.isfinite, (left, top, right, bottom))):
        raise ValueError(f"a crop box must be finite, got {edges}")
    return left, top, right, bottom


def _to_numpy(tensor: Tensor) -> NDArray[Any]:
    """A tensor as a numpy array; bfloat16, which numpy lacks, becomes float32."""
    found = tensor.detach().cpu()
    return (found.float() if found.dtype == torch.bfloat16 else found).numpy()
