"""Words of captions as items: importances and losses against the equations in loops, and every method on them."""

import math
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from oracles import alignment as alignment_oracle
from oracles import up_down as oracle
from saywhy.alignment.align import AlignmentSettings, align
from saywhy.alignment.controls import hints_of
from saywhy.alignment.importance import region_importance
from saywhy.alignment.region_methods import REGION_METHODS, RegionBatch, region_method
from saywhy.errors import InputError
from saywhy.metrics.correlation import rank_correlation
from saywhy.tasks.captioning.word_alignment import CaptionItems, word_output, word_task
from saywhy.tasks.generation.networks import ShowAndTell, TopDown
from saywhy.training.loop import Plan

CHANNELS, REGIONS, WORDS = 5, 6, 11
START, END = 2, 3


def captioner() -> TopDown:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = TopDown(CHANNELS, WORDS, 4, 7, 3, padded=True).double().eval()
    with torch.no_grad():
        network.attention_logit.weight.mul_(10)  # uneven attention
    return network


def regions(images: int = 2) -> Tensor:
    return torch.rand(images, REGIONS, CHANNELS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def some_words() -> CaptionItems:
    """Two words of one caption, and the last word of a shorter one of another image."""
    captions = torch.tensor([[4, 5, 6, 7], [4, 5, 6, 7], [8, 9, 0, 0]])
    return CaptionItems(torch.tensor([0, 0, 1]), captions, torch.tensor([1, 3, 1]))


def weights_of(network: nn.Module) -> dict:
    return {name: value.detach().numpy() for name, value in network.named_parameters()}


def batch_of(network: nn.Module, words: CaptionItems, hints: Tensor) -> RegionBatch:
    task = word_task(regions(), words, WORDS)
    taken = task.regions[task.images].requires_grad_()
    output = task.run(network, taken, torch.arange(len(words)))
    chosen = torch.ones(len(words), dtype=torch.bool)
    return RegionBatch(taken, output.logits, task.scores, output.attention, hints, chosen, task.activation)


def test_importance_attention_and_logits_are_those_of_the_equations():
    network, words = captioner(), some_words()
    batch = batch_of(network, words, torch.rand(3, REGIONS))
    for item in range(3):
        v = regions()[words.images[item]].numpy()
        caption = [word for word in words.captions[item].tolist() if word]
        place = int(words.places[item])
        logits, attention = oracle.top_down_captioner(v, caption, weights_of(network), START)
        assert batch.logits[item].tolist() == pytest.approx(logits[place].tolist(), rel=1e-9)
        assert batch.attention[item].tolist() == pytest.approx(attention[place].tolist(), rel=1e-9)
        wanted = oracle.word_importance(v, caption, place, weights_of(network), START)
        assert batch.importance[item].tolist() == pytest.approx(wanted, rel=1e-5, abs=1e-9)


def test_task_loss_is_the_cross_entropy_of_the_captions():
    network, words = captioner(), some_words()
    total, count = 0.0, 0
    for item in range(3):
        v = regions()[words.images[item]].numpy()
        caption = [word for word in words.captions[item].tolist() if word]
        logits, _ = oracle.top_down_captioner(v, caption, weights_of(network), START)
        for row, word in zip(logits, [*caption, END], strict=True):
            total -= math.log(oracle.softmax(row.tolist())[word])
            count += 1
    found = word_output(network, regions()[words.images], words).task_loss
    assert float(found.detach()) == pytest.approx(total / count, rel=1e-9)


def test_hint_and_zero_out_of_words_agree_with_loops():
    network, words = captioner(), some_words()
    hints = torch.rand(3, REGIONS, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    hints[2] = torch.nan  # a word without a hint
    batch = batch_of(network, words, hints)
    ranked = [
        alignment_oracle.ranking_loss(a.tolist(), h.tolist())
        for a, h in zip(batch.importance.detach()[:2], hints[:2], strict=True)
    ]
    assert float(REGION_METHODS["hint"].term(batch).detach()) == pytest.approx(sum(ranked) / REGIONS / 3, rel=1e-9)
    each = [alignment_oracle.softmax_zero_out(row.tolist()) for row in batch.logits.detach()]
    assert float(REGION_METHODS["zero-out-100"].term(batch).detach()) == pytest.approx(sum(each) / 3, rel=1e-9)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2), st.lists(st.integers(4, WORDS - 1), min_size=1, max_size=4), st.integers(0, 50))
def test_later_words_change_neither_logits_nor_importance(place, rest, seed):
    network = captioner()
    v = torch.rand(1, REGIONS, CHANNELS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = []
    for more in (rest, []):
        caption = torch.tensor([[4, 7, 9][: place + 1] + more])
        words, taken = CaptionItems(torch.tensor([0]), caption, torch.tensor([place])), v.clone().requires_grad_()
        output = word_output(network, taken, words)
        found.append((output.logits, region_importance(output.logits[:, int(words.words)], taken)))
    for with_rest, without in zip(*found, strict=True):
        torch.testing.assert_close(with_rest, without)


def test_items_do_not_depend_on_their_company_or_on_padding():
    network, words = captioner(), some_words()
    together = batch_of(network, words, torch.rand(3, REGIONS))
    alone = batch_of(network, words[torch.tensor([2])], torch.rand(1, REGIONS))
    torch.testing.assert_close(alone.importance[0], together.importance[2])
    torch.testing.assert_close(alone.logits[0], together.logits[2])


def test_captioner_without_attention_over_regions_has_none():
    network = ShowAndTell(CHANNELS, WORDS, 4, 7).double().eval()
    batch = batch_of(network, some_words(), torch.rand(3, REGIONS))
    assert batch.attention is None
    assert float(batch.importance.detach().std(1).max()) == pytest.approx(0, abs=1e-12)  # a mean ranks no region
    with pytest.raises(InputError, match="no attention over regions"):
        REGION_METHODS["attention-ranking"].term(batch)


def test_wrong_items_raise():
    captions = torch.tensor([[4, 5, 0]])
    with pytest.raises(InputError, match="item 0 is the word 2 of a caption of 2 words"):
        CaptionItems(torch.tensor([0]), captions, torch.tensor([2]))
    with pytest.raises(InputError, match="item 0 is the word -1"):
        CaptionItems(torch.tensor([0]), captions, torch.tensor([-1]))
    with pytest.raises(InputError, match=r"got the shapes \(2,\), \(1, 3\) and \(1,\)"):
        CaptionItems(torch.tensor([0, 1]), captions, torch.tensor([1]))
    words = some_words()
    with pytest.raises(InputError, match=r"images 0 to 1, but there are regions of 1 images"):
        word_task(regions(1), words, WORDS)
    with pytest.raises(InputError, match="word number 9, but the vocabulary has 9 words"):
        word_task(regions(), words, 9)
    with pytest.raises(InputError, match=r"\[batch, region, channel\]"):
        word_task(regions()[0], words, WORDS)
    with pytest.raises(InputError, match=r"the regions of 3 items, got 2. Give regions\[words.images\]"):
        word_output(captioner(), regions(), words)


PLAN = Plan((), batch=8, rate=5e-3, warmup=2, decay=0.0, clip=0.25)


@pytest.mark.nightly
class TestTraining:
    """Runs that need the extra train."""

    @pytest.fixture(autouse=True)
    def _library(self):
        pytest.importorskip("lightning_fabric", reason="training needs the extra train")

    def items(self):
        generator = torch.Generator().manual_seed(5)
        captions = torch.randint(4, WORDS, (20, 4), generator=generator).repeat_interleave(2, 0)
        words = CaptionItems(torch.arange(20).repeat_interleave(2), captions, torch.tensor([1, 3] * 20))
        return words, torch.rand(40, REGIONS, generator=generator)

    def trained(self, name: str, steps: int, weight: float = 2.0):
        words, human = self.items()
        method, network = region_method(name), captioner().float()
        centres = torch.rand(40, REGIONS, 2, generator=torch.Generator().manual_seed(2))
        hints = hints_of(method.hints, human, images=words.images, centres=centres, oracle=human)
        task = word_task(regions(20).float(), words, WORDS)
        align(network, task, method, hints, PLAN, steps, AlignmentSettings(weight=weight))
        return network

    @pytest.mark.parametrize("name", list(REGION_METHODS))
    def test_every_method_trains_and_is_the_same_again(self, name):
        first, second = (self.trained(name, 3).state_dict() for _ in range(2))
        assert all(torch.equal(first[key], second[key]) for key in first)
        assert not torch.equal(first["word.weight"], captioner().float().state_dict()["word.weight"])

    def test_hint_raises_the_rank_correlation_of_words(self):
        words, human = self.items()

        def rank(network: nn.Module) -> float:
            taken = regions(20).float()[words.images].requires_grad_()
            logits = word_output(network, taken, words).logits
            alpha = region_importance(logits.gather(1, words.words.unsqueeze(1)).squeeze(1), taken)
            return float(rank_correlation(alpha.detach(), human).mean())

        before = rank(captioner().float())
        assert rank(self.trained("hint", 80, weight=50.0)) > before + 0.1


@pytest.mark.nightly
def test_the_example_of_the_documentation_runs():
    pytest.importorskip("lightning_fabric", reason="training needs the extra train")
    page = (Path(__file__).parents[3] / "docs" / "fixing.md").read_text(encoding="utf-8")
    (block,) = [code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "word_task" in code]
    names: dict = {}
    exec(block, names)
    assert not names["network"].training
