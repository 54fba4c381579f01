"""The cost of counting at tiny size: what is measured, against what, and how it is printed."""

import pytest
import torch
from PIL import Image
from torch import nn

from research.benchmarks import counting
from saywhy.metrics.counting import round_counts
from saywhy.models import Preprocess
from saywhy.tasks.counting.count_folder import count_images

# As the command has it: what is said of the maps of random networks does not matter.
pytestmark = pytest.mark.filterwarnings("ignore::saywhy.errors.SaywhyWarning")


class TinyBackbone(nn.Module):
    """A network with a layer of the name and the channels that the counters expect."""

    def __init__(self) -> None:
        super().__init__()
        self.layer4 = nn.Sequential(nn.Conv2d(3, counting.CHANNELS, 3, stride=4, padding=1), nn.ReLU())
        self.runs = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.runs += 1
        return self.layer4(x).mean((2, 3))


@pytest.fixture
def tiny(monkeypatch):
    sizes = {"CHANNELS": 6, "HIDDEN": 4, "CLASSES": 3, "SIZE": 24, "IMAGES": 3, "BATCH": 2}
    for name, value in sizes.items():
        monkeypatch.setattr(counting, name, value)
    monkeypatch.setattr(counting, "PREPROCESS", Preprocess((24, 24), None))
    torch.manual_seed(0)
    network = TinyBackbone().eval()
    monkeypatch.setattr(counting, "backbone", lambda: network)
    return network


def calls_of(monkeypatch, part, repeats: int = 2) -> dict[str, dict]:
    """What a part measures: by its row the plain pass and the calls; each call is made as often as is measured."""
    seen = []

    def ratios(plain, calls, repeats):
        seen.append((plain, calls))
        for call in calls.values():
            for _ in range(repeats + 1):
                call()
        return {name: [2.0] * repeats for name in calls}

    monkeypatch.setattr(counting, "ratios", ratios)
    rows = part(repeats)
    return {"rows": rows, "seen": seen}


def test_pooled_cells_cost_one_pass_and_cropped_ones_one_for_each_cell(tiny):
    x = torch.rand(1, 3, 24, 24)
    for cropped, passes in ((False, 1), (True, 1)):  # cropped cells are one batch of nine
        model = counting.counter("sequential", tiny, cropped=cropped)
        tiny.runs, batches = 0, []
        hook = tiny.layer4.register_forward_hook(lambda _m, given, _o, seen=batches: seen.append(len(given[0])))
        with torch.inference_mode():
            assert model.module(x).cells.shape == (1, 9, 3)
        hook.remove()
        assert tiny.runs == passes
        assert batches == ([9] if cropped else [1])


def test_every_counter_is_measured_alone_first_and_later(tiny, monkeypatch):
    found = calls_of(monkeypatch, counting.pooled)
    calls = {
        "counter alone": "",
        "saywhy.count, first call": "at most 1.3",
        "saywhy.count, later calls": "at most 1.3",
    }
    assert [(row.what, row.who, row.goal) for row in found["rows"]] == [
        (f"{kind}, pooled cells", *one) for kind in ("glance", "associative", "sequential") for one in calls.items()
    ]
    assert {row.ratio for row in found["rows"]} == {"2.00 (2.00 to 2.00)"}
    plain, _ = found["seen"][0]
    assert plain().shape == (1, counting.CHANNELS)  # of the backbone, not of the counter


def test_a_first_call_is_that_of_a_counter_that_was_never_called(tiny, monkeypatch):
    models = []
    plain_count = counting.saywhy.count
    monkeypatch.setattr(
        counting.saywhy, "count", lambda model, *a, **k: models.append(model) or plain_count(model, *a, **k)
    )
    calls_of(monkeypatch, counting.pooled, repeats=2)
    first = [model for model in models if sum(other is model for other in models) == 1]
    assert len(first) == 3 * 3  # three counters, a warm-up and two repeats
    assert len(models) - len(first) == 3 * 3


def test_cropped_cells_are_measured(tiny, monkeypatch):
    rows = calls_of(monkeypatch, counting.cropped)["rows"]
    assert [row.what for row in rows] == ["associative, cropped cells"] * 2 + ["sequential, cropped cells"] * 2
    assert {row.goal for row in rows} == {""}


def test_a_folder_is_compared_with_the_same_counts(tiny, monkeypatch, tmp_path):
    rows = calls_of(monkeypatch, counting.folder, repeats=1)["rows"]
    assert [row.ratio for row in rows] == ["0.50 (0.50 to 0.50)"] * 3  # twice the time is half the speed
    assert {row.goal for row in rows} == {"at least 0.9"}
    files = []
    for number in range(3):
        files.append(str(tmp_path / f"{number}.png"))
        Image.new("RGB", (32, 30), (80 * number, 20, 200)).save(files[-1])
    model = counting.counter("associative", tiny)
    ours = [list(row.counts.values()) for row in count_images(model, files, batch_size=2)]
    plain = torch.cat(counting.plain_batches(model.module, files))
    assert torch.tensor(ours) == pytest.approx(round_counts(plain.double()).numpy())


def test_the_page_has_every_row():
    page = counting.page([counting.Row("glance, pooled cells", "counter alone", "1.01", "at most 1.3")], 7)
    assert "| glance, pooled cells | counter alone | 1.01 | at most 1.3 |" in page
    assert "(7 repeats)" in page
