"""Token grids of video and audio transformers, whose places are planted: one tubelet or patch is changed."""

import pytest
import torch
from torch import Tensor, nn

import saywhy
from placed_networks import search
from saywhy.engine.layers import find_layer
from saywhy.engine.layout import Layout
from saywhy.models.arrange import arranged

pytestmark = pytest.mark.slow

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "num_labels": 4}


def videomae(frames: int, side: int, patch: int) -> nn.Module:
    """A tiny VideoMAE with tubelets of two frames."""
    from transformers import VideoMAEConfig, VideoMAEForVideoClassification

    sizes = {"image_size": side, "patch_size": patch, "num_frames": frames, "tubelet_size": 2}
    return VideoMAEForVideoClassification(VideoMAEConfig(**sizes, **SIZES))


def vivit(frames: int, side: int, patch: int) -> nn.Module:
    """A tiny ViViT with tubelets of two frames."""
    from transformers import VivitConfig, VivitForVideoClassification

    sizes = {"image_size": side, "num_frames": frames, "tubelet_size": [2, patch, patch]}
    return VivitForVideoClassification(VivitConfig(**sizes, **SIZES))


def spectrogram_transformer(time: int, frequencies: int, patch: int) -> nn.Module:
    """A tiny audio spectrogram transformer with patches side by side."""
    from transformers import ASTConfig, ASTForAudioClassification

    sizes = {"max_length": time, "num_mel_bins": frequencies, "patch_size": patch}
    return ASTForAudioClassification(ASTConfig(**sizes, frequency_stride=patch, time_stride=patch, **SIZES))


def moved_cell(model: nn.Module, x: Tensor, changed: Tensor) -> tuple[Layout, tuple[int, ...]]:
    """The layout of the found layer, and the cell of its maps that one change of the input moves most."""
    found = find_layer(search(Logits(model), arranged(saywhy.load(model), x)))
    recorded: list[Tensor] = []
    handle = found.module.register_forward_hook(lambda _m, _a, out: recorded.append(tensor_of(out)))
    with torch.no_grad():
        model(x), model(changed)
    handle.remove()
    before, after = (found.proof.layout.to_maps(t) for t in recorded)
    moved = (after - before).abs().mean((0, 1))
    return found.proof.layout, tuple(int(i) for i in torch.unravel_index(moved.argmax(), moved.shape))


class Logits(nn.Module):
    """The logits of a network of transformers."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x).logits  # type: ignore[no-any-return]


def tensor_of(output: object) -> Tensor:
    """The first tensor of a module's output."""
    return output if isinstance(output, Tensor) else output[0]  # type: ignore[index,no-any-return]


@pytest.mark.parametrize("build", [videomae, vivit])
@pytest.mark.parametrize(("frames", "side", "patch"), [(8, 32, 8), (4, 48, 16), (16, 32, 8)])
def test_changed_tubelet_moves_its_own_cell(build, frames, side, patch):
    torch.manual_seed(0)
    model = build(frames, side, patch).eval()
    x = torch.randn(1, frames, 3, side, side)
    for place in ((0, 1, 2), (frames // 2 - 1, 0, 1), (1, side // patch - 1, 0)):
        t, i, j = place
        changed = x.clone()
        changed[:, 2 * t : 2 * t + 2, :, patch * i : patch * (i + 1), patch * j : patch * (j + 1)] += 5
        layout, cell = moved_cell(model, x, changed)
        assert layout.grid == (frames // 2, side // patch, side // patch)
        assert cell == place


@pytest.mark.parametrize(
    ("time", "frequencies", "patch"),
    [
        pytest.param(96, 48, 16, marks=pytest.mark.nightly),
        pytest.param(128, 64, 16, marks=pytest.mark.nightly),
        (80, 80, 16),
    ],
)
def test_changed_patch_of_a_spectrogram_moves_its_own_cell(time, frequencies, patch):
    torch.manual_seed(0)
    model = spectrogram_transformer(time, frequencies, patch).eval()
    x = torch.randn(1, time, frequencies)
    for place in ((0, 1), (time // patch - 1, 0), (2, 2)):
        t, f = place
        changed = x.clone()
        changed[:, patch * t : patch * (t + 1), patch * f : patch * (f + 1)] += 5
        layout, cell = moved_cell(model, x, changed)
        assert layout.grid == (time // patch, frequencies // patch)
        assert cell == place


def test_methods_of_a_spectrogram_transformer_give_maps_over_time_and_frequency():
    torch.manual_seed(0)
    model = spectrogram_transformer(96, 48, 16).eval()
    for method in ("gradcam", "scorecam", "ablationcam", "attention-rollout"):
        e = saywhy.explain(model, torch.randn(1, 96, 48), 0, method, axes="b t f", keep_model=False)
        assert e.maps.shape == (1, 1, 6, 3)
