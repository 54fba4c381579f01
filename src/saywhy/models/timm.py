"""Models of timm (extra ``timm``), with their labels and preprocessing."""

import math
from typing import Any

from saywhy.errors import MissingExtra, ModelError, WeightsError, nearest
from saywhy.models.model import Model
from saywhy.models.preprocess import Preprocess
from saywhy.models.weights import load_weights


def load(name: str, weights: Any = None) -> Model:
    """A timm model by its name there, e.g. ``vit_small_patch16_224``.

    Raises:
        MissingExtra: timm is not installed.
        ModelError: timm has no model of this name.
        WeightsError: the weights cannot be downloaded, read, or do not fit.
    """
    try:
        import timm
    except ImportError as error:
        raise MissingExtra("timm: models need timm. Install it: pip install 'saywhy[timm]'") from error
    if not timm.is_model(name.split(".")[0]):
        likely = ", ".join(f"'timm:{n}'" for n in nearest(name, timm.list_models())) or "see timm.list_models()"
        raise ModelError(f"timm has no model '{name}'. Nearest: {likely}.")
    try:
        module = timm.create_model(name, pretrained=weights is None)
    except (RuntimeError, OSError, ValueError) as error:
        if weights is not None:
            raise ModelError(f"timm cannot build '{name}': {error}") from error
        raise WeightsError(
            f"the weights of timm:{name} could not be downloaded ({type(error).__name__}: "
            f"{str(error).splitlines()[0]}). "
            "Give a file as weights=, or weights='random' for a network that was never trained."
        ) from error
    if weights not in (None, "random"):
        load_weights(module, weights)
    return Model(module.eval(), f"timm:{name}", _preprocess(module), _labels(module))


def _preprocess(module: Any) -> Preprocess:
    from timm.data import resolve_model_data_config

    config = resolve_model_data_config(module)
    height, width = config["input_size"][1:]
    share, squash = config.get("crop_pct", 1.0), config.get("crop_mode") == "squash"
    resize: Any = (math.floor(height / share), math.floor(width / share))
    if not squash:
        resize = resize[0] if height == width else resize
    return Preprocess(
        resize=resize,
        crop=(height, width),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=config["interpolation"]
        if config["interpolation"] in ("nearest", "bilinear", "bicubic")
        else "bicubic",
    )


def _labels(module: Any) -> tuple[str, ...] | None:
    from timm.data import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset(module)
    if subset is None and getattr(module, "num_classes", 0) == 1000:
        subset = "imagenet-1k"
    if subset is None:
        return None
    info = ImageNetInfo(subset)
    return tuple(info.index_to_description(i, detailed=False) for i in range(info.num_classes()))
