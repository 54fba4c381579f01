"""Explanations as ``.npz`` files: arrays and JSON, nothing pickled."""

import json
import math
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from saywhy.diagnostics import Diagnostic
from saywhy.errors import InputError, SaywhyError
from saywhy.explanation import Explanation
from saywhy.images import SourceImage
from saywhy.uncertainty.report import RiskCoveragePoint, UncertaintyComponent, UncertaintyReport


def save_npz(explanation: Explanation, path: Path) -> None:
    """Write maps on their own grids, scores, images, cards and provenance, whole or not at all."""
    from saywhy.io.atomic import atomic_write

    about = {
        "methods": explanation.methods,
        "layers": explanation.layers,
        "targets": explanation.targets,
        "input_size": explanation.input_size,
        "score": explanation.score,
        "words": explanation.words,
        "beside": explanation.beside,
        "certainty": [asdict(report) for report in explanation.certainty],
        "names": [source.name for source in explanation.images],
        "crop_box": [source.crop_box for source in explanation.images],
        "provenance": explanation.provenance,
        "cards": [
            [[[(f.name, f.state, f.text) for f in card] for card in row] for row in explanation.cards[m, layer]]
            for m, layer in explanation.pairs
        ],
        "pairs": explanation.pairs,
    }
    absent = np.full(tuple(explanation.scores.shape), math.nan)
    probabilities = explanation.probabilities.cpu().numpy() if explanation.probabilities is not None else absent
    arrays: dict[str, Any] = {
        "saywhy": np.array(json.dumps(about)),
        "classes": explanation.classes.cpu().numpy(),
        "scores": _numbers(explanation.scores),
        "probabilities": probabilities,
    }
    for i, source in enumerate(explanation.images):
        arrays[f"image/{i}"] = np.asarray(source.image)
        if source.values is not None:
            arrays[f"values/{i}"] = source.values
    for method, layer in explanation.pairs:
        arrays[f"maps/{method}/{layer}"] = _numbers(explanation[method, layer])
    for (method, layer), completeness_error in explanation._completeness_errors.items():
        arrays[f"completeness_errors/{method}/{layer}"] = _numbers(completeness_error)
    with atomic_write(path) as whole, whole.open("wb") as file:
        np.savez_compressed(file, **arrays)


def _numbers(tensor: Tensor) -> NDArray[Any]:
    """As numpy has them, which knows no bfloat16."""
    wide = tensor.detach().cpu()
    return (wide.float() if wide.dtype in (torch.bfloat16, torch.float16) else wide).numpy()


def load_npz(path: Path) -> Explanation:
    try:
        # Opened here, because numpy leaves a file that is no archive open.
        with path.open("rb") as file, np.lib.npyio.NpzFile(file, allow_pickle=False) as stored:
            return _from_arrays({name: stored[name] for name in stored.files})
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise InputError(f"'{path}' is no explanation saved by saywhy as .npz: {error}") from error


def _from_arrays(arrays: Mapping[str, NDArray[Any]]) -> Explanation:
    about = json.loads(str(arrays["saywhy"]))
    images = tuple(
        SourceImage(name, Image.fromarray(arrays[f"image/{i}"]), tuple(crop_box), arrays.get(f"values/{i}"))
        for i, (name, crop_box) in enumerate(zip(about["names"], about["crop_box"], strict=True))
    )
    keys = [(method, layer) for method, layer in about["pairs"]]
    cards = {
        key: [[tuple(Diagnostic(*fact) for fact in card) for card in row] for row in rows]
        for key, rows in zip(keys, about["cards"], strict=True)
    }
    probabilities = torch.from_numpy(arrays["probabilities"])
    return Explanation(
        methods=tuple(about["methods"]),
        layers=tuple(about["layers"]),
        targets=about["targets"],
        classes=torch.from_numpy(arrays["classes"]),
        scores=torch.from_numpy(arrays["scores"]),
        score=about.get("score", "logit"),
        probabilities=None if bool(probabilities.isnan().all()) else probabilities.float(),
        input_size=tuple(about["input_size"]),
        words=tuple(about.get("words", ())),
        beside=bool(about.get("beside", False)),
        certainty=tuple(_report(one) for one in about.get("certainty", ())),
        _maps={(m, layer): torch.from_numpy(arrays[f"maps/{m}/{layer}"]) for m, layer in keys},
        _completeness_errors={
            (m, layer): torch.from_numpy(arrays[f"completeness_errors/{m}/{layer}"])
            for m, layer in keys
            if f"completeness_errors/{m}/{layer}" in arrays
        },
        _diagnostics=lambda m, layer: cards[m, layer],
        _images=lambda: images,
        _provenance=lambda: about["provenance"],
        _counterfactual=_no_model,
        _again=_no_model,
    )


def _report(one: Mapping[str, Any]) -> UncertaintyReport:
    risk = one.get("risk") and RiskCoveragePoint(**{**one["risk"], "curve": tuple(one["risk"]["curve"])})
    return UncertaintyReport(
        **{**one, "components": tuple(UncertaintyComponent(**bar) for bar in one["components"]), "risk": risk}
    )


def _no_model() -> NoReturn:
    raise SaywhyError("an explanation read from a file has no model to ask again. Explain once more with the model.")
