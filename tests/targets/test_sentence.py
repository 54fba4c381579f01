"""Words and sentences as targets: one map a word from one pass, each that of its own score."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn

import saywhy
from saywhy.errors import TargetError
from saywhy.targets import Sentence, Words
from saywhy.tasks.generation.networks import CaptionModel, ShowAndTell, TopDown
from saywhy.tasks.vocabulary import Vocabulary

KNOWN = Vocabulary.of(["a red cat and a blue mug"])


@pytest.fixture(params=[ShowAndTell, TopDown])
def model(request) -> saywhy.Model:
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1), nn.ReLU())
    network = CaptionModel(trunk, request.param(6, len(KNOWN), 5, 7)).eval()
    loaded = saywhy.load(network, labels=KNOWN.words, input_size=16)
    return dataclasses.replace(loaded, texts={"caption": KNOWN.batch})


@pytest.fixture
def image() -> Tensor:
    return torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(2))


def explain(model, image, caption, target, **settings):
    return saywhy.explain(model, {"image": image, "caption": caption}, target, layer="trunk", relu=False, **settings)


def test_one_pass_gives_one_map_per_word(model, image):
    passes = []
    model.module.register_forward_hook(lambda *_: passes.append(1))
    explain(model, image, "a red cat", Words())
    passes.clear()
    e = explain(model, image, "a red cat", Words())
    assert len(passes) == 1
    assert e.targets == [["a", "red", "cat"]]
    assert e.maps.shape[:2] == (1, 3)
    assert bool((e.scores < 0).all())


def test_word_map_equals_the_map_of_its_log_probability(model, image):
    e = explain(model, image, "a red cat", Words())
    for turn in range(3):
        alone = explain(model, image, "a red cat", lambda said, turn=turn: said.log_probabilities()[:, turn])
        torch.testing.assert_close(alone.maps[:, 0], e.maps[:, turn])
        torch.testing.assert_close(alone.scores[:, 0], e.scores[:, turn])


def test_sentence_map_is_the_sum_of_word_maps(model, image):
    words, whole = (explain(model, image, "a red cat", target) for target in (Words(), Sentence()))
    assert whole.targets == [["a red cat"]]
    torch.testing.assert_close(whole.scores[:, 0], words.scores.sum(1))
    torch.testing.assert_close(whole.maps[:, 0], words.maps.sum(1))


def test_sentence_score_excludes_the_end_token(model, image):
    said = model.module(image, KNOWN.batch(["a red cat"]))
    e = explain(model, image, "a red cat", Sentence())
    torch.testing.assert_close(e.scores[0, 0], said.log_probabilities()[0, :3].sum().detach())


def test_captions_of_different_lengths_are_padded(model, image):
    images = torch.cat([image, image.flip(3)])
    together = explain(model, images, ["a red cat and a mug", "a mug"], Words())
    assert together.targets[1] == ["a", "mug", "", "", "", ""]
    alone = explain(model, images[1:], "a mug", Words())
    torch.testing.assert_close(together.maps[1, :2], alone.maps[0])
    assert not together.scores[1, 2:].any()


@pytest.mark.parametrize("target", [Words(), Words((0, 4)), [Words(), Sentence()], 2 * Words() - Sentence()])
@pytest.mark.parametrize("method", ["gradcam", "occlusion"])
def test_shorter_captions_are_the_same_one_by_one(model, image, target, method):
    images = torch.cat([image, image.flip(3)])
    given = {"image": images, "caption": ["a red cat and a mug", "a mug"]}
    settings = {"layer": "trunk", "relu": False} if method == "gradcam" else {}
    together, alone = (saywhy.explain(model, given, target, method, batch_size=size, **settings) for size in (None, 1))
    assert alone.targets == together.targets
    torch.testing.assert_close(alone.scores, together.scores)
    torch.testing.assert_close(alone.maps, together.maps, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_captions_of_different_lengths_can_be_checked(model, image):
    images = torch.cat([image, image.flip(3)])
    together = explain(model, images, ["a red cat and a mug", "a mug"], [Sentence(), Words()])
    verdicts = saywhy.check(together).verdicts
    assert [len(row) for row in verdicts] == [7, 7]
    assert len(verdicts[0][0].results) == len(verdicts[1][0].results)


def test_words_can_be_selected_contrasted_and_negated(model, image):
    e = explain(model, image, "a red cat", [Words((1,)), Words((2,)) - Words((0,)), -Sentence()])
    assert e.targets == [["red", "cat - a", "-a red cat"]]


def test_word_out_of_range_or_non_captioning_model_raises(model, image):
    with pytest.raises(TargetError, match=r"expected words from 0 to 2 \(the caption has 3 words\), got"):
        explain(model, image, "a red cat", Words((3,)))
    with pytest.raises(
        TargetError, match=r"a captioning model whose output has log_probabilities\(\) and words, got Tensor"
    ):
        saywhy.explain(nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(2 * 14 * 14, 2)), image, Words())


def test_multi_pass_methods_accept_word_targets(model, image):
    e = explain(model, image, "a red cat", Words(), method=["rsi-gradcam", "scorecam"], steps=4, score="logit")
    assert e["scorecam"].shape[:2] == e["rsi-gradcam"].shape[:2] == (1, 3)
