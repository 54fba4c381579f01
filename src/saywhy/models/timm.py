"""Models of timm (extra ``timm``), with their labels and preprocessing."""

import math
from functools import cache, partial
from typing import Any

from saywhy.errors import MissingExtra, ModelError, WeightsError, first_line, nearest
from saywhy.models.head import with_head_of
from saywhy.models.hub import hub
from saywhy.models.model import Model
from saywhy.models.preprocess import MeasuredPreprocess, Preprocess
from saywhy.models.registry import source


@source("timm", reading="models of timm (extra timm), by their names there")
def load(name: str, weights: Any = None) -> Model:
    """Load a timm model by its name, e.g. ``vit_small_patch16_224``.

    Raises:
        MissingExtra: timm is not installed.
        ModelError: timm has no model of this name.
        WeightsError: the weights cannot be downloaded, read, or do not fit.
    """
    try:
        import timm
    except ImportError as error:
        raise MissingExtra(f"timm: models need timm ({error}). Install it: pip install 'saywhy[timm]'") from error
    if not timm.is_model(name.split(".")[0]):
        likely = ", ".join(f"'timm:{n}'" for n in nearest(name, timm.list_models())) or "see timm.list_models()"
        raise ModelError(f"timm has no model '{name}'. Nearest: {likely}.")
    if weights in (None, "random"):
        module = _download(name) if weights is None else _build(name)
    else:
        module, _ = with_head_of(partial(_build, name), weights)
    return Model(module.eval(), f"timm:{name}", preprocess_of_timm(module), labels_of_timm(module))


def _download(name: str) -> Any:
    import timm

    with hub() as reached:
        try:
            return timm.create_model(name, pretrained=True)
        except (RuntimeError, OSError, ValueError) as error:
            cause = first_line(error) if reached else "the hub cannot be reached, and the weights are not in its cache"
            raise WeightsError(
                f"the weights of timm:{name} could not be downloaded: {cause}. "
                "Give a file as weights=, or weights='random' for a network that was never trained."
            ) from error


def _build(name: str, **settings: Any) -> Any:
    import timm

    try:
        return timm.create_model(name, pretrained=False, **settings)
    except (RuntimeError, OSError, ValueError) as error:
        raise ModelError(f"timm cannot build '{name}': {first_line(error)}") from error


def preprocess_of_timm(module: Any) -> Preprocess | MeasuredPreprocess:
    """timm's own transforms: as a :class:`Preprocess` where possible, else with their crop box measured."""
    from timm.data import create_transform, resolve_model_data_config

    config = resolve_model_data_config(module)
    channels, height, width = config["input_size"]
    mode, known = config.get("crop_mode", "center"), config["interpolation"] in ("nearest", "bilinear", "bicubic")
    share = config.get("crop_pct") or 1.0
    resize = (math.floor(height / share), math.floor(width / share))
    plain = mode == "squash" or (mode == "center" and resize[0] == resize[1])
    if channels != 3 or not known or not plain or config.get("crop_border_pixels"):
        return MeasuredPreprocess(create_transform(**config, is_training=False))
    return Preprocess(
        resize=resize if mode == "squash" else resize[0],
        crop=(height, width),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=config["interpolation"],
    )


def labels_of_timm(module: Any) -> tuple[str, ...] | None:
    from timm.data import infer_imagenet_subset

    subset = infer_imagenet_subset(module)
    if subset is None and getattr(module, "num_classes", 0) == 1000:
        subset = "imagenet-1k"
    if subset is None:
        return None
    return _labels_of_subset(subset)


@cache
def _labels_of_subset(subset: str) -> tuple[str, ...]:
    """The labels of a part of ImageNet; timm reads their files at every call."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo(subset)
    return tuple(info.index_to_description(i, detailed=False) for i in range(info.num_classes()))
