"""A small explanation of drawn images, without a model."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor


class Diagnostic(NamedTuple):
    name: str
    state: str
    text: str


@dataclass(frozen=True)
class SourceImage:
    name: str
    image: Image.Image
    crop_box: tuple[float, float, float, float]


@dataclass
class Explanation:
    """A fake `saywhy.Explanation`: exactly what `view.protocols.ExplanationLike` requires, and the notes of a task."""

    images: tuple[SourceImage, ...]
    targets: list[list[str]]
    maps: dict[tuple[str, str], Tensor]
    probabilities: Tensor | None
    scores: Tensor
    classes: Tensor
    score: str = "logit"
    methods: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    diagnostics: Mapping[tuple[str, str], Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    shows: dict[str, str] = field(default_factory=dict)
    uncertainty: Any = None
    word_targets: tuple[int, ...] = ()
    side_by_side: bool = False
    map_distances: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    tested: Mapping[tuple[str, str], Any] = field(default_factory=dict)

    @property
    def explanation(self) -> "Explanation":
        """Itself, so that it also stands for the result of a task."""
        return self

    def __getitem__(self, key: tuple[str, str]) -> Tensor:
        return self.maps[key]


def drawn(width: int, height: int, hue: int) -> Image.Image:
    image = Image.new("RGB", (width, height), (240, 236, 226))
    draw = ImageDraw.Draw(image)
    draw.ellipse((width // 5, height // 4, width // 2, 3 * height // 4), fill=(hue, 90, 60))
    draw.rectangle((3 * width // 5, height // 3, width - 6, 2 * height // 3), fill=(40, hue, 150))
    return image


def diagnostics_of(method: str, target: str) -> tuple[Diagnostic, ...]:
    return Diagnostic("Layout", "good", f"{method} {target} proved"), Diagnostic("Sign", "bad", "all against")


def explain(
    maps: dict[tuple[str, str], Tensor] | None = None,
    targets: list[str] | None = None,
    names: tuple[str, ...] = ("mug.png", "key.png"),
    probabilities: bool = True,
) -> Explanation:
    """Two images, three targets, two methods (the second signed), two layers with different grids."""
    targets = targets or ["mug", "key", "clock"]
    noise = torch.Generator().manual_seed(3)
    shape = (len(names), len(targets))
    if maps is None:
        maps = {
            (method, layer): torch.rand(*shape, *grid, generator=noise) * 4 - (2 if method == "signed" else 0)
            for method in ("gradcam", "signed")
            for layer, grid in (("layer3", (6, 6)), ("layer4", (3, 5)))
        }
    images = tuple(
        SourceImage(name, drawn(120, 80, 60 + 90 * i), (20.0, 0.0, 100.0, 80.0)) for i, name in enumerate(names)
    )
    diagnostics = {key: [[diagnostics_of(key[0], target) for target in targets]] * len(names) for key in maps}
    return Explanation(
        images=images,
        targets=[targets] * len(names),
        maps=maps,
        probabilities=torch.tensor([[0.62, 0.21, 0.0004, *[0.0] * 9][: shape[1]]] * shape[0])
        if probabilities
        else None,
        scores=torch.arange(float(shape[0] * shape[1])).reshape(shape) + 7.25,
        classes=torch.full(shape, -1),
        methods=tuple(dict.fromkeys(method for method, _ in maps)),
        layers=tuple(dict.fromkeys(layer for _, layer in maps)),
        diagnostics=diagnostics,
        provenance={"model": "toybox:classifier", "parameters": {"steps": 50}, "completeness_error": float("nan")},
    )


@pytest.fixture
def explanation() -> Explanation:
    return explain()


@pytest.fixture
def explained() -> Callable[..., Explanation]:
    """Make an explanation from given maps and names."""
    return explain


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """One browser for all tests; skips without chromium or selenium."""
    pytest.importorskip("selenium")
    from viewer_page import browsing

    yield from browsing(tmp_path_factory.mktemp("browser"))
