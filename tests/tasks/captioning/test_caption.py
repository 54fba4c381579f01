"""Generated captions, and the explanation of every word."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn

import saywhy
from saywhy.errors import InputError, MethodError, TargetError
from saywhy.metrics.diversity import map_distance
from saywhy.targets import Sentence, Words
from saywhy.tasks.captioning.caption import (
    CaptionExplanation,
    CaptionsExplanation,
    caption,
    diverse_captions,
    explain_captions,
)
from saywhy.tasks.generation.generate import generate_diverse_texts, generate_texts
from saywhy.tasks.generation.networks import CaptionModel, ShowAndTell, TopDown
from saywhy.tasks.vocabulary import Vocabulary

KNOWN = Vocabulary.of(["a red cat and a blue mug"])


@pytest.fixture(params=[ShowAndTell, TopDown])
def model(request) -> saywhy.Model:
    torch.manual_seed(1)
    trunk = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1), nn.ReLU())
    network = CaptionModel(trunk, request.param(6, len(KNOWN), 5, 7)).train()
    loaded = saywhy.load(network, labels=KNOWN.words, input_size=16)
    return dataclasses.replace(loaded, texts={"caption": KNOWN.batch})


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(2))


def test_generated_captions_use_known_words_and_are_deterministic(model, images):
    found = generate_texts(model, images, count=2)
    assert [len(of_image) for of_image in found] == [2, 2]
    for text in (text for of_image in found for text in of_image):
        assert set(text.split()) <= set(KNOWN.words[4:])
    assert generate_texts(model, images, count=2) == found
    assert generate_texts(model, images[1:])[0][0] == generate_texts(model, images)[1][0]
    assert model.module.training


@torch.no_grad()
def test_generated_captions_are_sorted_by_likelihood(model, images):
    first, second = generate_texts(model, images[:1], count=2)[0]
    network = model.module.eval()
    means = []
    for text in (first, second):
        likely = network(images[:1], KNOWN.batch([text])).log_probabilities()
        means.append(float(likely.sum() / (likely != 0).sum()))
    assert means[0] >= means[1] - 1e-5


def test_word_maps_sum_to_the_sentence_map(model, images):
    said = generate_texts(model, images[:1])[0][0]
    found = caption(model, images[:1], method="gradcam", layer="trunk", relu=False)
    assert found.captions == (said,)
    e = found.explanation
    assert e.targets == [[said, *said.split()]]
    torch.testing.assert_close(e.maps[:, 0], e.maps[:, 1:].sum(1))


def test_the_default_methods_are_those_of_the_claims_page(model, images):
    found = caption(model, images[:1], "a blue cat", layer="trunk", relu=False)
    has_attention = type(model.module.head).__name__ != "ShowAndTell"
    expected = ("model-attention", "hirescam") if has_attention else ("hirescam",)
    assert found.explanation.methods == expected
    assert "HiResCAM" in found.method_note
    assert caption(model, images[:1], "a blue cat", "gradcam", layer="trunk", relu=False).method_note == ""
    with pytest.raises(MethodError, match="no parameter 'widht'"):
        caption(model, images[:1], "a blue cat", widht=3)


def test_given_caption_is_explained_word_by_word(model, images):
    found = caption(model, images[:1], "a blue cat", layer="trunk", relu=False)
    assert (found.caption, found.words, found.captions) == ("a blue cat", ("a", "blue", "cat"), ())
    assert found.word_targets == (1, 2, 3)
    e = found.explanation
    assert e.targets == [["a blue cat", "a", "blue", "cat"]]
    with pytest.raises(InputError, match="none of the words"):
        caption(model, images[:1], "где кошка")


def test_model_without_text_output_raises(images):
    network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(2 * 14 * 14, 2))
    with pytest.raises(InputError, match="expected a model that generates text"):
        generate_texts(saywhy.load(network), images)


def test_model_attention_equals_the_network_attention(model, images):
    said = "a red cat"
    if isinstance(model.module.head, ShowAndTell):
        with pytest.raises(MethodError, match="CaptionOutput has nothing there"):
            caption(model, images[:1], said, method="model-attention", layer="trunk")
        return
    e = caption(model, images[:1], said, ["gradcam", "model-attention"], layer="trunk", relu=False).explanation
    with torch.no_grad():
        wanted = model.module.eval()(images[:1], KNOWN.batch([said])).attention
    torch.testing.assert_close(e["model-attention"][:, 1:], wanted[:, :3])
    torch.testing.assert_close(e["model-attention"][:, 0], wanted[:, :3].mean(1))
    assert e.shows == {"gradcam": "evidence", "model-attention": "activity"}


def test_attention_of_words_beyond_the_caption_end_is_zero(model, images):
    if isinstance(model.module.head, ShowAndTell):
        return
    inputs = {"image": images, "caption": ["a red cat", "a"]}
    e = saywhy.explain(model, inputs, [Sentence(), Words((0, 2))], "model-attention", "trunk")
    assert e.maps.shape[:2] == (2, 3)
    torch.testing.assert_close(e.maps[1, 0], e.maps[1, 1])
    assert not e.maps[1, 2].any()


def test_attention_of_negated_words_is_nonnegative(model, images):
    if isinstance(model.module.head, ShowAndTell):
        return
    inputs = {"image": images[:1], "caption": "a red cat"}

    def attention(target):
        return saywhy.explain(model, inputs, target, "model-attention", "trunk").maps

    torch.testing.assert_close(attention(-Words((1,))), attention(Words((1,))))
    both = attention(Words((1,)) - 3.0 * Words((2,)))
    torch.testing.assert_close(both, (attention(Words((1,))) + 3 * attention(Words((2,)))) / 4)


def test_caption_of_two_images_or_count_0_raises(model, images):
    with pytest.raises(InputError, match="one image, got 2"):
        caption(model, images, layer="trunk")
    with pytest.raises(InputError, match="count must be a whole number of at least 1, got 0"):
        generate_texts(model, images, count=0)


def test_class_target_or_missing_caption_raises(model, images):
    with pytest.raises(TargetError, match=r"Sentence\(\), Words\(\)"):
        saywhy.explain(model, {"image": images[:1], "caption": "a cat"}, layer="trunk")
    for given in (images[:1], {"image": images[:1]}, {"image": images[:1], "question": "a cat"}):
        with pytest.raises(InputError, match="takes words under the name 'caption'"):
            saywhy.explain(model, given, layer="trunk")


def test_a_word_that_is_not_known_keeps_its_name(model, images):
    found = caption(model, images[:1], "A zebra, and a cat", relu=False)
    assert found.unknown_words == ("zebra",)
    assert found.explanation.targets == [["a zebra and a cat", "a", "zebra", "and", "a", "cat"]]


class TestDiverseCaptions:
    def test_beam_groups_have_equal_numbers_of_captions(self, model, images):
        (found, other) = generate_diverse_texts(model, images, num_beam_groups=3, beams_per_group=2)
        assert [one.group for one in sorted(found, key=lambda one: one.group)] == [0, 0, 1, 1, 2, 2]
        for one in (*found, *other):
            assert set(one.text.split()) <= set(KNOWN.words[4:])
            assert one.log_probability < 0
        alone = generate_diverse_texts(model, images[1:], num_beam_groups=3, beams_per_group=2)[0]
        assert [(one.text, one.group) for one in alone] == [(one.text, one.group) for one in other]

    def test_one_group_equals_beam_search(self, model, images):
        found = generate_diverse_texts(model, images, num_beam_groups=1, beams_per_group=3)
        assert [[one.text for one in some] for some in found] == generate_texts(model, images, 3, 3)
        assert all(some == sorted(some, key=lambda one: -one.score) for some in found)
        assert len({one.text for one in found[0]}) == 3
        same = generate_diverse_texts(model, images, num_beam_groups=2, beams_per_group=3, diversity_penalty=0)
        assert [one.text for one in same[0] if one.group == 1] == [one.text for one in found[0]]

    def test_captions_are_explained_with_a_map_each(self, model, images):
        texts = ["a red cat", "a blue mug", "A red cat!"]
        found = explain_captions(model, images[:1], texts, "gradcam", layer="trunk", relu=False)
        e = found.explanation
        assert e.targets == [["a red cat", "a blue mug"]]  # the same text once
        assert e.maps.shape[:2] == (1, 2)
        assert found.side_by_side
        torch.testing.assert_close(found.map_distances["gradcam", "trunk"], map_distance(e.maps))
        for number, text in enumerate(texts[:2]):
            alone = caption(model, images[:1], text, "gradcam", layer="trunk", relu=False).explanation
            torch.testing.assert_close(e.maps[0, number], alone.maps[0, 0])
            torch.testing.assert_close(e.scores[0, number], alone.scores[0, 0])
        with pytest.raises(InputError, match="one by one"):
            _ = e.explainer

    def test_saved_captions_explanation_loads_equal(self, model, images, tmp_path):
        found = explain_captions(model, images[:1], ["a red cat", "a blue mug"], "gradcam", layer="trunk", relu=False)
        back = CaptionsExplanation.load(found.save(tmp_path / "e.npz"))
        assert back == found
        torch.testing.assert_close(back.map_distances, found.map_distances)
        assert (
            explain_captions(model, images[:1], ["a red cat"], "gradcam", layer="trunk", relu=False).map_distances == {}
        )
        with pytest.raises(InputError, match="holds no caption"):
            CaptionExplanation.load(tmp_path / "e.npz")

    def test_diverse_captions_are_generated_and_explained(self, model, images):
        found = diverse_captions(model, images[:1], 2, 2, layer="trunk", relu=False)
        wanted = generate_diverse_texts(model, images[:1], 2, 2)[0]
        assert list(found.diverse) == wanted
        assert found.captions == tuple(dict.fromkeys(one.text for one in wanted))

    def test_invalid_arguments_raise(self, model, images):
        with pytest.raises(InputError, match="no caption"):
            explain_captions(model, images[:1], [])
        with pytest.raises(MethodError, match="diversity_penalty"):
            generate_diverse_texts(model, images, diversity_penalty=-1)
