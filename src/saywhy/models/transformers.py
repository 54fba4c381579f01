"""Image classifiers of transformers (extra ``hf``), from the hub or from a folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from saywhy.errors import MissingExtra, ModelError, WeightsError, first_line
from saywhy.models.hub import hub
from saywhy.models.model import Model, labels_of
from saywhy.models.preprocess import MeasuredPreprocess
from saywhy.models.registry import source
from saywhy.models.weights import load_weights


@source("hf", reading="image classifiers of the Hugging Face hub (extra hf), or a folder with a saved one")
def load(name: str, weights: Any = None) -> Model:
    """Load an image classifier by its name on the hub, or from a folder made by ``save_pretrained``.

    Weights are read as safetensors only, and code that comes with a model is not run.

    Raises:
        MissingExtra: transformers is not installed.
        ModelError: there is no such model, or it is not an image classifier.
        WeightsError: the weights cannot be downloaded, read, or do not fit.
    """
    try:
        from transformers import AutoConfig, AutoModelForImageClassification
    except ImportError as error:
        raise MissingExtra(f"hf: models need transformers ({error}). Install it: pip install 'saywhy[hf]'") from error
    if name.startswith((".", "/", "~")) and not Path(name).expanduser().is_dir():
        raise ModelError(f"there is no folder '{name}'. Save a model there with model.save_pretrained('{name}').")
    source = str(Path(name).expanduser()) if Path(name).expanduser().is_dir() else name
    with hub() as reached:
        try:
            if weights is None:
                module, report = AutoModelForImageClassification.from_pretrained(
                    source, use_safetensors=True, output_loading_info=True, trust_remote_code=False
                )
            else:
                module = AutoModelForImageClassification.from_config(
                    AutoConfig.from_pretrained(source, trust_remote_code=False), trust_remote_code=False
                )
                report = {}
            preprocess = processor_of(source, name)
        except (OSError, RuntimeError) as error:
            cause = first_line(error) if reached or source != name else "the hub cannot be reached"
            raise WeightsError(
                f"hf:{name} could not be loaded: {cause}. Without a network give a folder that "
                "save_pretrained wrote, with weights in safetensors: 'hf:./folder'."
            ) from error
        except (ValueError, KeyError) as error:
            raise ModelError(f"hf:{name} is no image classifier of transformers: {first_line(error)}") from error
    _check_complete(name, report)
    if weights not in (None, "random"):
        load_weights(module, weights)
    labels = labels_of(module)
    return Model(
        module.eval(),
        f"hf:{name}",
        preprocess,
        tuple(labels) if labels else None,
        multilabel=module.config.problem_type == "multi_label_classification",
        output="logits",
        feed=lambda images: {"pixel_values": images},
    )


def _check_complete(name: str, report: Mapping[str, Any]) -> None:
    """Check that the file had all weights, because transformers initialises missing ones at random."""
    absent = sorted(map(str, report.get("missing_keys") or ())) + sorted(map(str, report.get("mismatched_keys") or ()))
    if absent:
        raise WeightsError(
            f"hf:{name} is no trained image classifier: {len(absent)} of its weights are not in the file "
            f"({', '.join(absent[:3])}{', …' if len(absent) > 3 else ''}). Is it a backbone without a head?"
        )


def processor_of(source: str, name: str, *, local: bool = False) -> MeasuredPreprocess:
    """Return the image processor that was saved with a model; ``local``: without a download.

    Raises:
        ModelError: there is none.
    """
    from transformers import AutoImageProcessor

    try:
        processor = AutoImageProcessor.from_pretrained(source, trust_remote_code=False, local_files_only=local)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"hf:{name} has no image processor ({first_line(error)}). Save one with the model, or give "
            "preprocess= to saywhy.load with the module itself."
        ) from error

    def pixels(image: Image.Image) -> torch.Tensor:
        return torch.as_tensor(processor(images=image, return_tensors="pt")["pixel_values"][0])

    return MeasuredPreprocess(pixels)
