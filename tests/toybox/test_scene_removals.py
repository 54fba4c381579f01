"""Objects removed from scenes of Toybox, one at a time."""

from dataclasses import astuple

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import saywhy
from saywhy.errors import InputError
from saywhy.models import Model, Preprocess
from saywhy.tasks.counting.removal import removal_effect
from saywhy.toybox import KINDS, scene
from saywhy.toybox.removal import scene_removals
from saywhy.toybox.scenes.scene import scene_without

PLAIN = Preprocess((128, 128), None, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


class Planted(nn.Module):
    """Counts 1 for each object of a scene, as the share of its own pixels that look as in the scene."""

    def __init__(self, split: str, index: int) -> None:
        super().__init__()
        self.features = nn.Identity()
        drawn = scene(split, index)
        self.whole = PLAIN(Image.fromarray(drawn.image))[0]
        self.objects = [(KINDS.index(one.kind), torch.from_numpy(one.mask.copy())) for one in drawn.objects]

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.features(image)
        alike = (1 - 40 * (x - self.whole).abs().mean(1)).clamp_min(0)  # (batch, row, column)
        counts = [torch.zeros(len(x)) for _ in KINDS]
        for label, mask in self.objects:
            counts[label] = counts[label] + alike[:, mask].mean(1)
        return {"counts": torch.stack(counts, 1)}


# Without the object no evidence is left, which is right here.
@pytest.mark.filterwarnings("ignore:.*the map is zero everywhere")
@pytest.mark.parametrize("index", [1, 4])
def test_the_count_of_a_removed_object_falls(index):
    model = Model(Planted("talk-test", index).eval(), "planted", PLAIN, tuple(KINDS), output="counts", scale="value")
    found = scene_removals(model, "talk-test", index, "occlusion")
    drawn = scene("talk-test", index)
    assert [one.name for one in found] == [one.kind for one in drawn.objects]
    for one, gone in zip(found, drawn.objects, strict=True):
        assert one.before == pytest.approx(sum(each.kind == gone.kind for each in drawn.objects))
        assert one.state == "counted"
        assert one.area == pytest.approx(gone.mask.mean())
        assert one.share_before > one.area  # the evidence lies on the object …
        if one.after > 0.5:  # others of its kind are left, and have the evidence
            assert one.share_after < one.area
        else:
            assert one.after < 0.05


def test_each_effect_is_that_of_two_images():
    model = saywhy.load("toybox:counter", weights="random")
    whole = scene("talk-test", 1)
    found = scene_removals(model, "talk-test", 1)
    gone = whole.objects[0]
    alone = removal_effect(model, whole.image, scene_without("talk-test", 1, 0).image, gone.kind, gone.mask)
    assert found[0].name == alone.name
    assert astuple(found[0])[1:] == pytest.approx(astuple(alone)[1:], nan_ok=True)
    with pytest.raises(InputError, match="no class is named by"):
        scene_removals(
            Model(model.module, "other", PLAIN, ("zebra",) * 1, output="counts", scale="value"), "talk-test", 1
        )
