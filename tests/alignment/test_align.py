"""Training on regions: every method's loss from its parts, and what HINT does to a planted network."""

from dataclasses import replace

import pytest
import torch
from scipy.stats import spearmanr
from torch import nn
from torch.nn import functional as F

from oracles import alignment as oracle
from saywhy.alignment.align import AlignmentSettings, RegionOutput, RegionTask, align
from saywhy.alignment.controls import hints_of
from saywhy.alignment.importance import region_importance
from saywhy.alignment.region_methods import REGION_METHODS, RegionBatch, region_method
from saywhy.errors import InputError, TrainingError
from saywhy.training.loop import Plan

ITEMS, REGIONS, CHANNELS, ANSWERS = 60, 8, 5, 4


class Attending(nn.Module):
    """Attention over regions, and a classifier of what was attended."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.attention, self.hidden = nn.Linear(CHANNELS, 1), nn.Linear(CHANNELS, 12)
            self.answer = nn.Linear(12, ANSWERS)

    def forward(self, regions):
        attention = self.attention(regions).squeeze(2).softmax(1)
        return self.answer((attention.unsqueeze(2) * self.hidden(regions).tanh()).sum(1)), attention


def task(double=False):
    generator = torch.Generator().manual_seed(0)
    regions = torch.randn(ITEMS // 2, REGIONS, CHANNELS, generator=generator)
    images = torch.arange(ITEMS) // 2
    scores = F.one_hot(torch.randint(ANSWERS, (ITEMS,), generator=generator), ANSWERS).float()
    if double:
        regions, scores = regions.double(), scores.double()

    def run(model, taken, items):
        logits, attention = model(taken)
        return RegionOutput(logits, F.binary_cross_entropy_with_logits(logits, scores[items]), attention)

    return RegionTask(regions, images, scores, run)


def human():
    values = torch.rand(ITEMS, REGIONS, generator=torch.Generator().manual_seed(1))
    values[::3] = torch.nan
    return values


def hints(method):
    centres = torch.rand(ITEMS, REGIONS, 2, generator=torch.Generator().manual_seed(2))
    images = torch.arange(ITEMS) // 2
    return hints_of(method.hints, human(), images=images, centres=centres, oracle=human() ** 2)


def batch(items=slice(0, 12)):
    whole, network = task(double=True), Attending().double()
    regions = whole.regions[whole.images[items]].requires_grad_()
    logits, attention = network(regions)
    chosen = torch.arange(12) % 2 == 0
    return RegionBatch(regions, logits, whole.scores[items], attention, human()[items].double(), chosen)


@pytest.mark.parametrize("name", [n for n, m in REGION_METHODS.items() if m.term is not None])
def test_each_term_agrees_with_loops(name):
    given = batch()
    found = float(REGION_METHODS[name].term(given).detach())
    alpha = given.importance.detach().tolist()
    rows = list(zip(alpha, given.hints.tolist(), given.attention.tolist(), given.logits.tolist(), strict=True))
    some = [(a, h, t, z) for a, h, t, z in rows if h[0] == h[0]]
    expected = {
        "hint": lambda: sum(oracle.ranking_loss(a, h) for a, h, *_ in some) / REGIONS,
        "literal-ties": lambda: sum(oracle.ranking_loss(a, h, literal=True) for a, h, *_ in some) / REGIONS,
        "spread": lambda: sum(oracle.spread(a) / 2 for a, *_ in some) / REGIONS,
        "norm": lambda: sum(abs(x) for a, *_ in some for x in a) / REGIONS,
        "attention-ranking": lambda: sum(oracle.ranking_loss(t, h) for _, h, t, _ in some) / REGIONS,
        "attention-cosine": lambda: sum(
            1 - sum(x * y for x, y in zip(t, h, strict=True)) / (sum(x * x for x in t) * sum(y * y for y in h)) ** 0.5
            for _, h, t, _ in some
        ),
        "zero-out-100": lambda: sum(oracle.zero_out(z) for k, (*_, z) in enumerate(rows) if k % 2 == 0),
    }
    same = {"irrelevant": "hint", "fixed-random": "hint", "variable-random": "hint", "permuted-within": "hint"}
    same |= {"permuted-across": "hint", "centre-prior": "hint", "oracle": "hint"}
    same |= {"zero-out-1-fixed": "zero-out-100", "zero-out-1-variable": "zero-out-100"}
    if name.startswith("self-critical"):
        assert found == pytest.approx(self_critical(given, name.endswith("released")), rel=1e-6)
    else:
        assert found == pytest.approx(expected[same.get(name, name)]() / 12, rel=1e-6)


@pytest.mark.parametrize("released", [False, True])
def test_words_are_criticised_by_the_probabilities_of_a_softmax(released):
    given = replace(batch(), activation="softmax")
    name = "self-critical-released" if released else "self-critical"
    found = float(REGION_METHODS[name].term(given).detach())
    assert found == pytest.approx(self_critical(given, released, given.logits.detach().softmax(1)), rel=1e-6)


def self_critical(given, released, probabilities=None):
    probabilities = given.logits.detach().sigmoid() if probabilities is None else probabilities
    total = 0.0
    hint = given.hints.nan_to_num(0.0)
    for k in range(12):
        strengthen, rank = oracle.strengthen(given.importance[k].tolist(), hint[k].tolist())
        right = int(given.scores[k].argmax())
        answers = [right, *given.logits[k].topk(4).indices.tolist()]
        alpha = [region_importance(given.logits[:, a], given.regions)[k].tolist() for a in answers]
        p = [float(probabilities[k, a]) for a in answers]
        total += strengthen + oracle.critical(alpha, p, 0, hint[k].tolist(), rank, released)
    return total / 12


def rank_correlation(network, whole, values):
    regions = whole.regions[whole.images].requires_grad_()
    logits, _ = network(regions)
    alpha = region_importance((logits * whole.scores).sum(1), regions).detach()
    known = values.isfinite().all(1)
    return sum(spearmanr(a, h)[0] for a, h in zip(alpha[known], values[known], strict=True)) / int(known.sum())


PLAN = Plan((), batch=16, rate=5e-3, warmup=2, decay=0.0, clip=0.25)


@pytest.mark.nightly
class TestAlign:
    """Runs that need the extra train."""

    @pytest.fixture(autouse=True)
    def _library(self):
        pytest.importorskip("lightning_fabric", reason="training needs the extra train")

    @pytest.mark.parametrize("name", list(REGION_METHODS))
    def test_every_method_trains_and_is_the_same_again(self, name):
        method, found = region_method(name), []
        for _ in range(2):
            network = Attending()
            align(network, task(), method, hints(method), PLAN, 12)
            found.append(network.state_dict())
        assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])
        assert any(not torch.equal(found[0][key], value) for key, value in Attending().state_dict().items())

    def test_hint_raises_the_rank_correlation_and_random_hints_do_not(self):
        whole, values = task(), human()
        before = rank_correlation(Attending(), whole, values)
        reached = {}
        for name in ("hint", "variable-random"):
            network, method = Attending(), region_method(name)
            align(network, whole, method, hints(method), PLAN, 150, AlignmentSettings(weight=20.0))
            reached[name] = rank_correlation(network, whole, values)
        assert reached["hint"] > before + 0.2
        assert reached["variable-random"] < before + 0.1

    def test_stopped_run_resumes_to_the_same_weights(self, tmp_path):
        method = region_method("variable-random")

        def stop(step, _):
            if step == 7:
                raise KeyboardInterrupt

        whole, resumed = Attending(), Attending()
        align(whole, task(), method, hints(method), PLAN, 12)
        with pytest.raises(KeyboardInterrupt):
            align(resumed, task(), method, hints(method), PLAN, 12, checkpoint=tmp_path / "c", every=3, report=stop)
        resumed = Attending()
        align(resumed, task(), method, hints(method), PLAN, 12, checkpoint=tmp_path / "c", every=3)
        assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))

    def test_loss_that_is_nan_stops(self):
        whole = task()
        broken = replace(whole, regions=whole.regions * torch.nan)
        with pytest.raises(TrainingError, match="loss of step 1 of 12 is nan"):
            align(Attending(), broken, region_method("hint"), hints(region_method("hint")), PLAN, 12)


def test_hints_of_another_kind_or_number_raise():
    with pytest.raises(InputError, match="needs hints of the kind 'irrelevant' for 60 items, got 'human' for 60"):
        align(Attending(), task(), region_method("irrelevant"), hints_of("human", human()), PLAN, 1)
    with pytest.raises(InputError, match="for 60 items, got 'human' for 30"):
        align(Attending(), task(), region_method("hint"), hints_of("human", human()[:30]), PLAN, 1)
    empty = hints_of("human", torch.full((ITEMS, REGIONS), torch.nan))
    with pytest.raises(InputError, match="no item has hints for two regions"):
        align(Attending(), task(), region_method("hint"), empty, PLAN, 1)


def test_unknown_method_and_missing_attention_raise():
    with pytest.raises(InputError, match="Did you mean 'spread'"):
        region_method("sprad")
    with pytest.raises(InputError, match="no attention over regions"):
        REGION_METHODS["attention-cosine"].term(replace(batch(), attention=None))


def test_linear_schedule_and_all_items():
    settings = AlignmentSettings(3.0, schedule="linear")
    assert [settings.weight_at(step, 3) for step in range(3)] == pytest.approx([1.0, 2.0, 3.0])
    assert AlignmentSettings(3.0).weight_at(0, 3) == 3.0
