"""Image classifiers of transformers (extra ``hf``), from the hub or from a folder."""

from pathlib import Path
from typing import Any

import torch
from PIL import Image

from saywhy.errors import MissingExtra, ModelError, WeightsError
from saywhy.models.model import Model, labels_of
from saywhy.models.preprocess import MeasuredPreprocess
from saywhy.models.weights import load_weights


def load(name: str, weights: Any = None) -> Model:
    """An image classifier by its name on the hub, or a folder made by ``save_pretrained``.

    Weights are read as safetensors only, and code that comes with a model is never run.

    Raises:
        MissingExtra: transformers is not installed.
        ModelError: there is no such model, or it classifies no pictures.
        WeightsError: the weights cannot be downloaded, read, or do not fit.
    """
    try:
        from transformers import AutoConfig, AutoModelForImageClassification
    except ImportError as error:
        raise MissingExtra("hf: models need transformers. Install it: pip install 'saywhy[hf]'") from error
    if name.startswith((".", "/", "~")) and not Path(name).expanduser().is_dir():
        raise ModelError(f"there is no folder '{name}'. Save a model there with model.save_pretrained('{name}').")
    place = str(Path(name).expanduser()) if Path(name).expanduser().is_dir() else name
    try:
        if weights is None:
            module = AutoModelForImageClassification.from_pretrained(place, use_safetensors=True)
        else:
            module = AutoModelForImageClassification.from_config(AutoConfig.from_pretrained(place))
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            f"hf:{name} could not be loaded ({str(error).splitlines()[0]}). Without a network give a folder that "
            "save_pretrained wrote, with weights in safetensors: 'hf:./folder'."
        ) from error
    except (ValueError, KeyError) as error:
        raise ModelError(f"hf:{name} is no image classifier of transformers: {str(error).splitlines()[0]}") from error
    if weights not in (None, "random"):
        load_weights(module, weights)
    labels = labels_of(module)
    return Model(
        module.eval(),
        f"hf:{name}",
        _preprocess(place, name),
        tuple(labels) if labels else None,
        multilabel=module.config.problem_type == "multi_label_classification",
        output="logits",
        feed=lambda pictures: {"pixel_values": pictures},
    )


def _preprocess(place: str, name: str) -> MeasuredPreprocess:
    from transformers import AutoImageProcessor

    try:
        processor = AutoImageProcessor.from_pretrained(place)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"hf:{name} has no image processor ({str(error).splitlines()[0]}). Save one beside the model, or give "
            "preprocess= to saywhy.load with the module itself."
        ) from error

    def pixels(image: Image.Image) -> torch.Tensor:
        return torch.as_tensor(processor(images=image, return_tensors="pt")["pixel_values"][0])

    return MeasuredPreprocess(pixels)
