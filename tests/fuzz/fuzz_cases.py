"""Random calls of everything that takes values, inputs or files from outside."""

import io
import json
import math
import tempfile
import warnings
import zipfile
from base64 import b64encode
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from fuzz_runner import Case
from PIL import Image
from safetensors.torch import save
from torch import nn

import saywhy
from kinds import ATTENTION, HEADS
from oracles.networks import TinyNetwork, TinyTransformer
from saywhy.alignment.hint_files import read_hints
from saywhy.cli.explain import parameter_of
from saywhy.concepts.textual import names_of
from saywhy.datasets.load import open_dataset
from saywhy.datasets.load_labelled import read_labelled
from saywhy.images import read_image
from saywhy.methods import METHODS
from saywhy.metrics import METRICS, measure
from saywhy.models.uncertainty_reference import UncertaintyReference
from saywhy.models.weights import load_weights
from saywhy.targets import Class, Top
from saywhy.targets.expression import parse_target
from saywhy.tasks.captioning.coco_captions import read_captions
from saywhy.tasks.region_features import read_region_tsv
from saywhy.tasks.vqa.vqa_dataset import read_annotations, read_questions, read_results
from saywhy.tasks.vqa.vqa_hat import find_maps
from saywhy.validation import short_repr

FOLDER = Path(tempfile.mkdtemp(prefix="saywhy-fuzz-"))

HUGE = 10**400

UNPRINTABLE = 10**5000
"""More digits than Python converts to text, or from it."""


class Odd:
    """An object of no known type, whose text is strange."""

    def __repr__(self) -> str:
        return "odd \ud800 \x1b"


def values() -> list[Any]:
    """Values of many types; counts are small or beyond all limits, so that no honest call takes long."""
    return [
        None, True, False, 0, 1, 2, 3, -1, -3, 2**31, 2**63, 2**64, -(2**64), HUGE, -HUGE, 0.0, 0.5, 1.0, -0.5, 1.5,
        1e-320, 1e308, -1e308, math.nan, math.inf, -math.inf, 1j, "", "x", "auto", "relu", "input", "features", "0",
        "\ud800", "\0", "a" * 5000, "[/red]", b"bytes", [], [1], [0, 1], ["x"], [None], [[]], (), (1, 2), (0, 0), {},
        {"a": 1}, {1: 2}, set(), range(3), Odd(), Odd, len, lambda *_: None, np.float32(0.5), np.int64(2), np.nan,
        np.array([]), np.array([1.0, 2.0]), np.array("x"), np.zeros((2, 2), dtype=object), torch.tensor(1),
        torch.tensor(math.nan), torch.zeros(0), torch.zeros(2), torch.ones(3, 12, 12), torch.zeros(1, 3, 12, 12),
        torch.zeros(2, device="meta"), torch.eye(2).to_sparse(), torch.zeros(2, dtype=torch.complex64),
        torch.zeros(2, dtype=torch.bool), torch.zeros(2).to(torch.float8_e4m3fn), Path("x"), Class(0), Class("nosuch"),
        "9" * 5000, "²", UNPRINTABLE, -UNPRINTABLE, Class(UNPRINTABLE),
        Class(-1), Class(HUGE), Class(1.5), Top(2), Top(0), saywhy.Layout("channels-first", (6, 6)), nn.ReLU(),
    ]  # fmt: skip


def layouts() -> list[Any]:
    """Layouts, most of which do not fit."""
    made = []
    for kind in ("channels-first", "channels-last", "tokens", "nosuch", None):
        for grid in ((6, 6), (0, 0), (-1, 36), (HUGE, 1), (36,), (6, 6, 1), (), None, ("a", "b"), (1.5, 2)):
            for prefix in (0, 1, -1, HUGE):
                made.append(lambda kind=kind, grid=grid, prefix=prefix: saywhy.Layout(kind, grid, prefix=prefix))
    return made


ARGUMENTS = (
    "target", "method", "layer", "score", "fuse", "layout", "output", "precision", "batch_size", "create_graph", "seed",
    "keep_model",
)  # fmt: skip


@cache
def network(name: str) -> nn.Module:
    return TinyTransformer.build() if name in ATTENTION else TinyNetwork.build(head=HEADS.get(name, "mlp"))


@cache
def image() -> torch.Tensor:
    return torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(1))


QUICK = {"steps": 2, "num_samples": 2, "masks": 3, "window": 6, "cells": 3}


def arguments(random: Random) -> tuple[str, Callable[[], Any]]:
    """One argument of ``explain``."""
    name = random.choice(ARGUMENTS)
    value = random.choice(layouts()) if name == "layout" and random.random() < 0.7 else random.choice(values())
    if name == "target" and callable(value):  # a function of the user's, whose errors are the user's
        value = None

    def call() -> Any:
        given = value() if getattr(value, "__name__", "") == "<lambda>" and name == "layout" else value
        e = saywhy.explain(network("gradcam"), image(), **{"relu": False, name: given})
        return repr(e), e.diagnostics, e.provenance

    return f"explain({name}={short_repr(value)})", call


def parameters(random: Random) -> tuple[str, Callable[[], Any]]:
    """One parameter of a method."""
    method = random.choice(list(METHODS))
    own = METHODS[method].parameters
    name = random.choice(list(own)) if own else "relu"
    value = random.choice(values())
    layout = (
        saywhy.Layout("tokens", (6, 6), prefix=1) if method in ATTENTION else saywhy.Layout("channels-first", (6, 6))
    )
    quick = {key: some for key, some in QUICK.items() if key in own}

    def call() -> Any:
        settings = {**quick, name: value}
        return saywhy.explain(
            network(method), image(), 1, method, layer="features", layout=layout, batch_size=4, **settings
        )

    return f"{method}({name}={short_repr(value)})", call


def inputs(random: Random) -> tuple[str, Callable[[], Any]]:
    """One input, to a model with and without preprocessing."""
    value = random.choice(pictures()) if random.random() < 0.6 else random.choice(values())
    if random.random() < 0.3:
        value = random.choice([[value], (value,), {"x": value}, {1: value}, [value, value], {"image": value}])
    model: Any = network("gradcam")
    if random.random() < 0.5:
        model = saywhy.load(model, input_size=12)
    method = random.choice(["gradcam", "saliency", "eigencam", "occlusion"])

    def call() -> Any:
        e = saywhy.explain(model, value, method=method, **({"window": 6} if method == "occlusion" else {}))
        return e.images, e.heatmap()

    return f"{method} of {type(value).__name__} {short_repr(value)}", call


@cache
def pictures() -> list[Any]:
    """Tensors, arrays and images of many kinds."""
    found: list[Any] = [
        torch.zeros(shape)
        for shape in ((0,), (0, 3, 12, 12), (1, 3, 0, 12), (1, 3, 12, 0), (3, 0, 0), (1, 1, 12, 12), (3, 12, 12),
                      (12, 12), (1, 3, 1, 1), (1, 3, 2, 2), (1, 12, 12, 3), (1, 0, 12, 12), (1, 3, 12),
                      (1, 3, 12, 12, 12), ())
    ]  # fmt: skip
    x = torch.randn(1, 3, 12, 12)
    kinds = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool, torch.complex64)
    found += [x.to(kind) for kind in (*kinds, torch.float8_e4m3fn)]
    found += [x.to("meta"), x.to_sparse(), x.expand(4, 3, 12, 12), x * math.nan, x * math.inf, x * 1e38, x * 0]
    found += [x.requires_grad_(), nn.Parameter(x.detach()), x.detach().to_mkldnn(), x.detach()[0].mT]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found += [torch.quantize_per_tensor(x.detach(), 0.1, 0, torch.quint8), x.detach()[0, 0].to_sparse_csr()]
        found.append(torch.nested.nested_tensor([torch.zeros(3, 12, 12), torch.zeros(3, 8, 8)]))
    with torch.inference_mode():
        found.append(torch.zeros(1, 3, 12, 12))
    for shape in (
        (0, 0, 3),
        (0,),
        (5, 0, 3),
        (5, 5),
        (5, 5, 1),
        (5, 5, 2),
        (5, 5, 3),
        (5, 5, 4),
        (3, 5, 5),
        (1, 5, 5, 3),
    ):
        found += [np.zeros(shape, dtype=kind) for kind in ("u1", "f4", "f8", "i8", "u2", "?", "c8", "O", "U3", "M8[s]")]
    for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "LA", "PA", "RGBX", "I;16"):
        found += [Image.new(mode, size) for size in ((12, 12), (0, 0), (0, 5), (1, 1), (1, 4000))]
    closed = Image.new("RGB", (5, 5))
    closed.close()
    return [
        *found,
        closed,
        np.ma.masked_array(np.zeros((5, 5, 3), "u1"), True),
        memoryview(bytes(75)),
        "http://x/y.png",
    ]


def networks(random: Random) -> tuple[str, Callable[[], Any]]:
    """A network with weights that are no plain numbers, or that is no network."""
    kind = random.choice(
        ["sparse", "meta", "float8", "half", "complex", "int", "lazy", "empty", "nan", "no output", "quantised", "fn"]
    )
    method = random.choice(["gradcam", "saliency", "eigencam", "rise", "ablationcam"])

    def call() -> Any:
        net: Any = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
        if kind == "sparse":
            net[4].weight = nn.Parameter(net[4].weight.detach().to_sparse())
        elif kind == "meta":
            net = net.to("meta")
        elif kind in ("float8", "half", "complex"):
            net = net.to({"float8": torch.float8_e4m3fn, "half": torch.float16, "complex": torch.complex64}[kind])
        elif kind == "int":
            net[4].weight = nn.Parameter(torch.ones(3, 4, dtype=torch.int64), requires_grad=False)
        elif kind == "lazy":
            net[4] = nn.LazyLinear(3)
        elif kind == "empty":
            net = nn.Sequential()
        elif kind == "nan":
            nn.init.constant_(net[4].weight, math.nan)
        elif kind == "no output":
            net.append(Nothing())
        elif kind == "quantised":
            net = torch.ao.quantization.quantize_dynamic(net, {nn.Linear})
        else:
            net = random.choice(
                [len, None, 3, "nosuch:x", "", ":", "hf:", "timm:", "torchvision:", "x.py:f", "a" * 5000]
            )
        return saywhy.explain(
            net, torch.rand(1, 3, 12, 12), method=method, **({"masks": 3} if method == "rise" else {})
        )

    return f"{method} of a network ({kind})", call


class Nothing(nn.Module):
    """A layer without output."""

    def forward(self, x: torch.Tensor) -> None:
        return None


@cache
def result() -> saywhy.Explanation:
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))
    model = saywhy.load(network("gradcam"), labels=["cat", "dog", "mug", "key"], input_size=12)
    return saywhy.explain(model, photo, [0, 1], ["gradcam", "layercam"], ["features", "stem"], relu=False)


def results(random: Random) -> tuple[str, Callable[[], Any]]:
    """One argument of a method of an explanation, or of a metric or check."""
    e, value = result(), random.choice(values())
    calls: dict[str, Callable[[], Any]] = {
        "e[x]": lambda: e[value],
        "e[x, y]": lambda: e["gradcam", value],
        "heatmap(size)": lambda: e.heatmap(value),
        "heatmap((x, 5))": lambda: e.heatmap((value, 5)),
        "heatmap(normalize)": lambda: e.heatmap(normalize=value),
        "heatmap(method)": lambda: e.heatmap(method=value),
        "heatmap(layer)": lambda: e.heatmap(layer=value),
        "peak(sample)": lambda: e.peak(value),
        "peak(target)": lambda: e.peak(0, value),
        "on_image(sample)": lambda: e.on_image(value),
        "box(threshold)": lambda: e.box(threshold=value),
        "fuse(how)": lambda: e.fuse(value),
        "overlay(sample)": lambda: e.overlay(value),
        "overlay(target)": lambda: e.overlay(0, value),
        "overlay(method)": lambda: e.overlay(method=value),
        "overlay(layer)": lambda: e.overlay(layer=value),
        "overlay(alpha)": lambda: e.overlay(alpha=value),
        "overlay(threshold)": lambda: e.overlay(threshold=value),
        "overlay(scale)": lambda: e.overlay(scale=value),
        "overlay(other)": lambda: e.overlay(other=value),
        "save": lambda: e.save(f"{FOLDER}/{value}" if isinstance(value, str | bytes) else value),
        "load": lambda: saywhy.Explanation.load(value),
        "from_dict": lambda: saywhy.Explanation.from_dict(value),
        "measure(names)": lambda: measure(e, value),
        "check(seed)": lambda: saywhy.check(e, seed=value) if isinstance(value, str | list) else None,
        "load(labels)": lambda: saywhy.load(network("gradcam"), labels=value),
        "load(input_size)": lambda: saywhy.load(network("gradcam"), input_size=value),
        "load(mean)": lambda: saywhy.load(network("gradcam"), mean=value),
        "load(std)": lambda: saywhy.load(network("gradcam"), std=value),
        "load(weights)": lambda: saywhy.load(network("gradcam"), value),
        "load(texts)": lambda: saywhy.load(network("gradcam"), texts=value),
        "load(output)": lambda: saywhy.explain(saywhy.load(network("gradcam"), output=value), image()),
        "layers(inputs)": lambda: saywhy.layers(network("gradcam"), value),
        "capture(layer)": lambda: saywhy.capture(network("gradcam"), image(), layer=value),
        "read_image": lambda: read_image(value),
        "open_dataset": lambda: open_dataset(value),
        "names_of": lambda: names_of(value),
        "parse_target": lambda: parse_target(value, ("cat", "dog")) if isinstance(value, str) else None,
        "parameter_of": lambda: parameter_of(f"{short_repr(value)}={short_repr(value)}"),
    }
    name = random.choice(list(calls))
    return f"{name} with {short_repr(value)}", calls[name]


def metric_parameters(random: Random) -> tuple[str, Callable[[], Any]]:
    """One parameter of a metric."""
    metric = random.choice(
        [m for m in METRICS.values() if m.needs in ("maps", "image", "model", "method")] or list(METRICS.values())
    )
    own = [name for name in metric.parameters if name != "other"]
    name, value = random.choice([*own, "nosuch"]), random.choice(values())
    return f"{metric.name}({name}={short_repr(value)})", lambda: measure(result(), metric.name, **{name: value})


# --- files ---------------------------------------------------------------------------------------------------------


def damaged(data: bytes, random: Random) -> bytes:
    """Bytes with a few random changes: flipped, cut, doubled, or strange text put in."""
    out = bytearray(data)
    for _ in range(random.choice([1, 1, 2, 5])):
        at = random.randrange(len(out) + 1)
        how = random.randrange(6)
        if how == 0 and out:
            out[at % len(out)] ^= 1 << random.randrange(8)
        elif how == 1:
            del out[at:]
        elif how == 2:
            out[at:at] = random.choice(STRANGE)
        elif how == 3:
            end = min(len(out), at + random.randrange(40))
            out[at:end] = random.choice(STRANGE)
        elif how == 4:
            out[at:at] = out[at : at + random.randrange(200)]
        else:
            out[at : at + random.randrange(9)] = bytes(random.randrange(256) for _ in range(random.randrange(9)))
    return bytes(out)


STRANGE = (
    b"1" + b"0" * 400, b"-1", b"NaN", b"1e999", b"null", b"[]", b"{}", b'"\\ud800"', b"[" * 3000, b'{"a":' * 3000,
    b"\x00", b"\xff\xfe", b"../../x", b"/etc/passwd", b'""', b"true", b"1" * 5000, b"<!DOCTYPE a>", b"&amp;", b",,,",
    b"</object>",
    "\u202e".encode(), b"\n", b"\xed\xa0\x80", b"x" * 3000, b"99999", b"0.00001",
)  # fmt: skip


def mutated(record: Any, random: Random) -> Any:
    """JSON data in which one value, at any depth, is another."""
    strange = (
        None, True, -1, 0, 2**64, HUGE, -HUGE, 1e308, math.nan, math.inf, "", "x", "\ud800", "../x", "/x", [], [[]], {},
        [None], {"a": 1}, "a\0b", [1, 2, 3, 4], [0, 0, HUGE, 1], [math.nan] * 4, "x" * 5000,
    )  # fmt: skip
    if isinstance(record, dict) and record and random.random() < 0.93:
        key = random.choice(list(record))
        if random.random() < 0.1:
            return {k: v for k, v in record.items() if k != key}
        return {**record, key: mutated(record[key], random)}
    if isinstance(record, list) and record and random.random() < 0.93:
        at = random.randrange(len(record))
        return [*record[:at], mutated(record[at], random), *record[at + 1 :]]
    return random.choice(strange)


def as_text(record: Any) -> bytes:
    return json.dumps(record).encode()


COCO = {
    "images": [{"id": 1, "file_name": "a.png", "width": 12, "height": 8}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "segmentation": [[0, 0, 4, 0, 4, 4]]},
        {"id": 2, "image_id": 1, "category_id": 1, "bbox": [0, 0, 3, 4], "iscrowd": 1,
         "segmentation": {"size": [8, 12], "counts": [10, 6, 80]}},
        {"id": 3, "image_id": 1, "category_id": 1, "bbox": [0, 0, 3, 4],
         "segmentation": {"size": [8, 12], "counts": ":6^2"}},
    ],
    "categories": [{"id": 1, "name": "cat"}],
}  # fmt: skip
BOXES = [{"file": "a.png", "label": "cat", "left": 0, "top": 0, "right": 4, "bottom": 4}]
CSV = b"file,label,left,top,right,bottom\na.png,cat,0,0,4,4\na.png,dog,1,1,5,5\n"
XML = (
    b"<annotation><size><width>12</width><height>8</height></size><object><name>cat</name><difficult>0</difficult>"
    b"<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>8</xmax><ymax>6</ymax></bndbox></object></annotation>"
)
QUESTIONS = {"questions": [{"question_id": 1, "image_id": 9, "question": "why?"}], "data_subtype": "train2014"}
ANSWERS = {
    "annotations": [
        {"question_id": 1, "image_id": 9, "question_type": "why", "answer_type": "other", "multiple_choice_answer": "x",
         "answers": [{"answer": "x", "answer_confidence": "yes", "answer_id": 1}] * 3}
    ]
}  # fmt: skip
CAPTIONS = {
    "images": [{"id": 1, "file_name": "a.png"}],
    "annotations": [{"id": 1, "image_id": 1, "caption": "a cat"}],
}


def picture_bytes(format: str, size: tuple[int, int] = (12, 8)) -> bytes:
    out = io.BytesIO()
    mode = {"GIF": "P", "PNG": "RGB"}.get(format, "RGB")
    Image.fromarray(np.arange(size[0] * size[1] * 3, dtype=np.uint8).reshape(size[1], size[0], 3)).convert(mode).save(
        out, format
    )
    return out.getvalue()


def read_all(spec: Any) -> None:
    data = open_dataset(spec)
    assert data.labels is not None
    for index in range(len(data)):
        found = data[index]
        found.open()
        for thing in found.objects:
            if thing.mask is not None:
                thing.mask()


def fresh() -> Path:
    return Path(tempfile.mkdtemp(dir=FOLDER))


def datasets(random: Random) -> tuple[str, Callable[[], Any]]:
    """One data set of any kind, damaged."""
    folder, kind = fresh(), random.choice(["coco", "boxes.json", "boxes.csv", "voc", "voc list", "imagenet", "image"])
    record = random.random() < 0.7
    photo = picture_bytes("PNG")
    if kind in ("coco", "boxes.json"):
        data = COCO if kind == "coco" else BOXES
        name = "instances_val2017.json" if kind == "coco" else kind
        (folder / name).write_bytes(as_text(mutated(data, random)) if record else damaged(as_text(data), random))
    elif kind == "boxes.csv":
        (folder / kind).write_bytes(damaged(CSV, random))
    elif kind in ("voc", "voc list"):
        for part in ("JPEGImages", "Annotations", "ImageSets/Main", "SegmentationObject"):
            (folder / part).mkdir(parents=True)
        (folder / "JPEGImages" / "a.png").write_bytes(photo)
        mask = io.BytesIO()
        Image.new("L", (12, 8), 1).save(mask, "PNG")
        (folder / "SegmentationObject" / "a.png").write_bytes(
            damaged(mask.getvalue(), random) if record else mask.getvalue()
        )
        (folder / "Annotations" / "a.xml").write_bytes(damaged(XML, random) if kind == "voc" else XML)
        (folder / "ImageSets" / "Main" / "val.txt").write_bytes(
            damaged(b"a\n", random) if kind == "voc list" else b"a\n"
        )
    elif kind == "imagenet":
        for part in ("Data/CLS-LOC/val", "Annotations/CLS-LOC/val"):
            (folder / part).mkdir(parents=True)
        (folder / "Data/CLS-LOC/val" / "a.png").write_bytes(photo)
        (folder / "Annotations/CLS-LOC/val" / "a.xml").write_bytes(damaged(XML.replace(b"cat", b"n01440764"), random))
        (folder / "LOC_synset_mapping.txt").write_bytes(damaged(b"n01440764 tench, fish\n", random))
    else:
        (folder / "boxes.csv").write_bytes(CSV)
        photo = damaged(photo, random)
    (folder / "a.png").write_bytes(photo)
    return f"data set {kind} in {folder}", lambda: read_all(folder)


def image_files(random: Random) -> tuple[str, Callable[[], Any]]:
    """A damaged image file."""
    format = random.choice(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
    path = fresh() / f"a.{format.lower()}"
    path.write_bytes(damaged(picture_bytes(format), random))
    return f"image {path}", lambda: read_image(path)


@cache
def weights() -> dict[str, bytes]:
    state, made = TinyNetwork.build().state_dict(), {}
    for name, zipped in (("a.pt", True), ("old.pt", False)):
        out = io.BytesIO()
        torch.save(state, out, _use_new_zipfile_serialization=zipped)
        made[name] = out.getvalue()
    return {**made, "a.safetensors": save(state), "b.bin": made["a.pt"]}


def weight_files(random: Random) -> tuple[str, Callable[[], Any]]:
    """A damaged weights file, or one that holds other things."""
    path = fresh() / random.choice(list(weights()))
    if random.random() < 0.6:
        path.write_bytes(damaged(weights()[path.name], random))
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            held = random.choice(
                [value for value in values() if isinstance(value, str | int | list | dict | tuple | torch.Tensor)]
            )
            held = random.choice(
                [
                    held,
                    {"w": held},
                    {0: held},
                    {"state_dict": held},
                    {"model": {held if held.__hash__ and not isinstance(held, tuple) else 1: held}},
                ]
            )
            try:
                torch.save(held, path)
            except Exception:
                path.write_bytes(b"")
    return f"weights {path}", lambda: load_weights(TinyNetwork.build(), path)


@cache
def saved() -> tuple[bytes, Any]:
    path = result().save(FOLDER / "whole.npz")
    return path.read_bytes(), json.loads(json.dumps(result().to_dict()))


def explanations(random: Random) -> tuple[str, Callable[[], Any]]:
    """A damaged explanation: its file, one array of it, or its record."""
    data, record = saved()
    if random.random() < 0.5:
        changed = mutated(record, random)
        return f"record {str(changed)[:60]}", lambda: used(saywhy.Explanation.from_dict(changed))
    path = fresh() / "a.npz"
    if random.random() < 0.5:
        path.write_bytes(damaged(data, random))
    else:
        with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(path, "w") as out:
            which = random.choice(archive.namelist())
            for name in archive.namelist():
                part = archive.read(name)
                out.writestr(name, damaged(part, random) if name == which else part)
    return f"explanation {path}", lambda: used(saywhy.Explanation.load(path))


def used(e: saywhy.Explanation) -> None:
    assert repr(e)
    e.heatmap()
    e.peak(0, 0)
    e.box(0, 0)
    e.overlay(0, 0)
    e.fuse("mean")
    e.to_dict()


def json_readers(random: Random) -> tuple[str, Callable[[], Any]]:
    """Other readers of JSON."""
    reference = {"quantiles": {"entropy": [0.0, 0.5, 1.0]}, "limit": 0.5, "risk": 0.1, "split": "val", "risks": None}
    readers: list[tuple[Any, Callable[[Any], Any]]] = [
        (QUESTIONS, read_questions),
        (ANSWERS, read_annotations),
        ([{"question_id": 1, "answer": "x"}], read_results),
        (CAPTIONS, read_captions),
        ({"12": {"name": "fur", "iou": 0.12}}, names_of),
        (reference, lambda path: UncertaintyReference.read(path.read_bytes().decode("utf-8", "replace"))),
    ]
    data, read = random.choice(readers)
    path = fresh() / "a.json"
    path.write_bytes(as_text(mutated(data, random)) if random.random() < 0.6 else damaged(as_text(data), random))

    def call() -> None:
        found = read(path)
        if read is read_questions:
            for question in found.values():
                question.image(path.parent)

    return f"{getattr(read, '__name__', 'reader')} of {path}", call


def folders(random: Random) -> tuple[str, Callable[[], Any]]:
    """Names of files in a folder of human attention maps."""
    folder = fresh()
    for _ in range(3):
        name = random.choice(["1_1.png", "²_1.png", "1_²_1.png", "9" * 200 + "_1.png", "a\x1b.png", "1_1.PNG", "x.txt"])
        (folder / name).write_bytes(random.choice([b"", picture_bytes("PNG")]))

    def call() -> None:
        for people in find_maps(folder).values():
            for each in people:
                each.read()

    return f"folder {folder}", call


STROKES = {
    "format": "saywhy-strokes",
    "version": 1,
    "images": [
        {
            "file": "a.png",
            "width": 12,
            "height": 8,
            "strokes": [{"points": [[1, 2], [5, 5]], "radius": 2, "matters": True}],
        }
    ],
}
LABELS = [
    {"file": "a.png", "label": "cat", "split": "train"},
    {"file": "b.png", "label": "dog", "split": "train"},
    {"file": "c.png", "label": "cat", "split": "val"},
]
METADATA = b"img_id,img_filename,y,split,place,place_filename\n1,a.png,0,0,0,x\n2,b.png,1,0,1,x\n3,c.png,0,1,1,x\n"
REGIONS = b"\t".join((b"9", b"12", b"8", b"1", b64encode(np.array([1, 2, 3, 4], "<f4")), b64encode(np.ones(5, "<f4"))))


def training_files(random: Random) -> tuple[str, Callable[[], Any]]:
    """One labelled data set with hints, or regions, of which one file is damaged."""
    folder, hints = fresh(), fresh()
    kind = random.choice(
        ["labels.json", "labels.csv", "metadata.csv", "strokes.json", "coco.json", "a.xml", "a.png", "tsv"]
    )
    for name in ("a.png", "b.png", "c.png"):
        (folder / name).write_bytes(picture_bytes("PNG"))
    if kind == "tsv":
        (folder / kind).write_bytes(damaged(REGIONS, random))
        return f"regions in {folder}", lambda: list(read_region_tsv(folder / kind, channels=5))
    table = METADATA if kind == "metadata.csv" else as_text(LABELS)
    if kind == "labels.csv":
        table = "\n".join(["file,label,split", *(",".join(row.values()) for row in LABELS)]).encode()
    if kind in ("labels.csv", "metadata.csv"):
        table = damaged(table, random)
    elif kind == "labels.json":
        table = as_text(mutated(LABELS, random))
    (folder / (kind if kind in ("labels.csv", "metadata.csv") else "labels.json")).write_bytes(table)
    records = {"strokes.json": STROKES, "coco.json": COCO}
    mask = io.BytesIO()
    Image.fromarray(np.eye(8, 12, dtype=np.uint8) * 255).save(mask, "PNG")
    if kind in records:
        text = (
            as_text(mutated(records[kind], random))
            if random.random() < 0.7
            else damaged(as_text(records[kind]), random)
        )
        (hints / kind).write_bytes(text)
    elif kind == "a.xml":
        (hints / kind).write_bytes(damaged(XML, random))
    else:
        (hints / "a.png").write_bytes(damaged(mask.getvalue(), random) if kind == "a.png" else mask.getvalue())

    def call() -> None:
        data = read_labelled(folder)
        found = read_hints(hints / kind if kind in records else hints, data)
        for file in found:
            assert found[file].shape == (8, 12)

    return f"{kind} of {folder} and {hints}", call


CASES: dict[str, Case] = {
    case.__name__: case
    for case in (
        arguments, parameters, inputs, networks, results, metric_parameters, datasets, image_files, weight_files,
        explanations, json_readers, folders, training_files,
    )
}  # fmt: skip
