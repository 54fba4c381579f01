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

from saywhy.diagnostics import Fact
from saywhy.errors import InputError, SaywhyError
from saywhy.explanation import Explanation
from saywhy.images import Picture
from saywhy.uncertainty.report import Bar, Risk, Told


def save_npz(explanation: Explanation, path: Path) -> None:
    """Write maps on their own grids, scores, pictures, cards and provenance, whole or not at all."""
    from saywhy.io.atomic import written_whole

    about = {
        "methods": explanation.methods,
        "layers": explanation.layers,
        "targets": explanation.targets,
        "input_size": explanation.input_size,
        "score": explanation.score,
        "words": explanation.words,
        "beside": explanation.beside,
        "certainty": [asdict(told) for told in explanation.certainty],
        "names": [picture.name for picture in explanation.pictures],
        "seen": [picture.seen for picture in explanation.pictures],
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
    for i, picture in enumerate(explanation.pictures):
        arrays[f"picture/{i}"] = np.asarray(picture.image)
        if picture.values is not None:
            arrays[f"values/{i}"] = picture.values
    for method, layer in explanation.pairs:
        arrays[f"maps/{method}/{layer}"] = _numbers(explanation[method, layer])
    for (method, layer), gap in explanation._gaps.items():
        arrays[f"gaps/{method}/{layer}"] = _numbers(gap)
    with written_whole(path) as whole, whole.open("wb") as file:
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
    pictures = tuple(
        Picture(name, Image.fromarray(arrays[f"picture/{i}"]), tuple(seen), arrays.get(f"values/{i}"))
        for i, (name, seen) in enumerate(zip(about["names"], about["seen"], strict=True))
    )
    keys = [(method, layer) for method, layer in about["pairs"]]
    cards = {
        key: [[tuple(Fact(*fact) for fact in card) for card in row] for row in rows]
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
        certainty=tuple(_told(one) for one in about.get("certainty", ())),
        _maps={(m, layer): torch.from_numpy(arrays[f"maps/{m}/{layer}"]) for m, layer in keys},
        _gaps={
            (m, layer): torch.from_numpy(arrays[f"gaps/{m}/{layer}"])
            for m, layer in keys
            if f"gaps/{m}/{layer}" in arrays
        },
        _cards=lambda m, layer: cards[m, layer],
        _pictures=lambda: pictures,
        _provenance=lambda: about["provenance"],
        _counterfactual=_no_model,
        _again=_no_model,
    )


def _told(one: Mapping[str, Any]) -> Told:
    risk = one.get("risk") and Risk(**{**one["risk"], "curve": tuple(one["risk"]["curve"])})
    return Told(**{**one, "bars": tuple(Bar(**bar) for bar in one["bars"]), "risk": risk})


def _no_model() -> NoReturn:
    raise SaywhyError("an explanation read from a file has no model to ask again. Explain once more with the model.")
