"""What belongs to a sample: shared arguments, mixed samples, and batches of every size, with known truth."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import saywhy
from saywhy.errors import InputError

Words = dict[str, Tensor]


class Compared(nn.Module):
    """Scores of every image for every text [image, text], as CLIP's: a text names the quarter where light counts."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)
        self.conv.weight.data[:, :, 1, 1] = 1.0
        masks = torch.zeros(4, 16, 16)
        for quarter in range(4):
            row, column = divmod(quarter, 2)
            masks[quarter, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 1.0
        self.register_buffer("masks", masks)

    def quarters(self, image: Tensor) -> Tensor:
        """How bright each quarter is, [image, 4]."""
        return self.conv(image * self.masks).relu().mean((2, 3))

    def forward(self, image: Tensor, text: Tensor) -> Words:
        features = self.quarters(image)
        words = nn.functional.one_hot(text[:, 0], 4).to(features)
        scores = features @ words.T
        return {"logits_per_image": scores, "logits_per_text": scores.T, "embeds": features}


class Asked(nn.Module):
    """One answer for every pair of an image and a question, as VQA: the question names the quarter."""

    def __init__(self) -> None:
        super().__init__()
        self.pairs = Compared()

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        features = self.pairs.quarters(image)
        chosen = features.gather(1, text[:, :1])
        return torch.cat([chosen, 0 * chosen], 1)


def quarter(one: Tensor) -> int:
    """The quarter of a map [h, w] with most of its sum."""
    halves = [half for rows in one.chunk(2, 0) for half in rows.chunk(2, 1)]
    return int(torch.stack([half.sum() for half in halves]).argmax())


def settings(method: str) -> dict[str, Any]:
    return {"method": method, "window": 8, "fill": "zero"} if method == "occlusion" else {"method": method}


def images(count: int) -> Tensor:
    return torch.rand(count, 1, 16, 16, generator=torch.Generator().manual_seed(0)) + 0.5


def texts(*quarters: int) -> Tensor:
    return torch.tensor([[q, 0] for q in quarters])


@pytest.mark.parametrize("method", ["gradcam", "hirescam", "saliency", "occlusion", "scorecam"])
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("named", [True, False])
def test_as_many_texts_as_images_are_the_classes_of_all_images(method: str, count: int, named: bool) -> None:
    words = texts(3, 1, 2)[:count]
    given: Any = {"image": images(count), "text": words} if named else (images(count), words)
    for size in (None, 1, 2):
        e = saywhy.explain(
            Compared(), given, target=list(range(count)), batch_size=size, score="logit", **settings(method)
        )
        assert e.maps.shape[:2] == (count, count)
        for sample in range(count):
            for target in range(count):
                assert quarter(e.maps[sample, target]) == int(words[target, 0])


@pytest.mark.parametrize("method", ["hirescam", "occlusion"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_questions_belong_to_their_images(method: str, count: int) -> None:
    questions = texts(3, 1, 2)[:count]
    for size in (None, 1, 2):
        e = saywhy.explain(
            Asked(), {"image": images(count), "text": questions}, target=0, batch_size=size, **settings(method)
        )
        assert [quarter(m) for m in e.maps[:, 0]] == questions[:, 0].tolist()


@pytest.mark.parametrize("method", ["hirescam", "saliency", "occlusion"])
def test_batch_size_does_not_divide_shared_texts_of_its_own_length(method: str) -> None:
    # Three images in parts of two, and two texts: parts have as many images as there are texts.
    given = {"image": images(3), "text": texts(3, 1)}
    whole = saywhy.explain(Compared(), given, target=[0, 1], **settings(method))
    for size in (1, 2):
        parts = saywhy.explain(Compared(), given, target=[0, 1], batch_size=size, **settings(method))
        torch.testing.assert_close(parts.maps, whole.maps)
        torch.testing.assert_close(parts.scores, whole.scores)


def test_probability_of_one_text_does_not_depend_on_copies_of_it() -> None:
    e = saywhy.explain(Compared(), {"image": images(1), "text": texts(3, 1, 2)}, target=0, **settings("occlusion"))
    assert e.maps.shape == (1, 1, 16, 16)
    assert quarter(e.maps[0, 0]) == 3


def model_of(network: nn.Module) -> saywhy.Model:
    names = ["lower right", "upper right", "lower left"]
    numbers = dict(zip(names, (3, 1, 2), strict=True))

    def encode(given: Any) -> Tensor:
        return texts(*(numbers[text] for text in given))

    model = saywhy.load(network, texts={"text": encode})
    model.preprocess = None
    return model


NAMES = ["lower right", "upper right", "lower left"]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_words_compared_with_every_image_are_its_classes(count: int) -> None:
    e = saywhy.explain(model_of(Compared()), {"image": images(count), "text": NAMES}, target=NAMES, method="hirescam")
    assert e.targets == [NAMES] * count
    assert e.maps.shape[:2] == (count, 3)
    for maps in e.maps:
        assert [quarter(m) for m in maps] == [3, 1, 2]


def test_words_asked_about_one_image_are_one_sample_each() -> None:
    e = saywhy.explain(model_of(Asked()), {"image": images(1), "text": NAMES}, target=0, method="hirescam")
    assert [quarter(m) for m in e.maps[:, 0]] == [3, 1, 2]


class Prior(nn.Module):
    """Class scores with a weight for every class, given as an argument with as many rows as there are images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, image: Tensor, weights: Tensor) -> Tensor:
        return self.conv(image).abs().mean((2, 3)) * weights


@pytest.mark.parametrize("size", [None, 1])
def test_class_weights_are_shared_though_there_are_as_many_as_images(size: int | None) -> None:
    torch.manual_seed(0)
    network, weights = Prior(), torch.tensor([1.0, 5.0])
    e = saywhy.explain(network, (images(2), weights), target=1, method="hirescam", relu=False, batch_size=size)
    for i in range(2):
        one = saywhy.explain(network, (images(2)[i : i + 1], weights), target=1, method="hirescam", relu=False)
        torch.testing.assert_close(e.maps[i : i + 1], one.maps)


class Mixing(nn.Module):
    """Scores relative to the mean of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        found = self.conv(image).relu().mean((2, 3))
        return found - found.mean(0)


def test_samples_that_mix_are_refused() -> None:
    torch.manual_seed(0)
    with pytest.raises(InputError, match=r"Mixing mixes the samples.*one sample at a time"):
        saywhy.explain(Mixing(), images(3), target=0)


class Noisy(nn.Module):
    """Scores with noise in every pass."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        found = self.conv(image).relu().mean((2, 3))
        return found + torch.randn_like(found)


def test_noise_in_the_network_is_not_taken_for_mixed_samples() -> None:
    torch.manual_seed(0)
    assert saywhy.explain(Noisy(), images(3), target=0, relu=False).maps.shape == (3, 1, 16, 16)


class Attended(nn.Module):
    """Images and a table of neighbours [image, image]: samples that depend on one another."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, image: Tensor, neighbours: Tensor) -> Tensor:
        return neighbours @ self.conv(image).relu().mean((2, 3))


def test_arguments_that_cannot_be_divided_are_refused_with_the_way_out() -> None:
    torch.manual_seed(0)
    table = torch.rand(3, 3, generator=torch.Generator().manual_seed(1))
    with pytest.raises(InputError, match=r"one sample at a time.*shared=\["):
        saywhy.explain(Attended(), (images(3), table), target=0)


def test_declared_shared_arguments_are_taken_whole() -> None:
    given = {"image": images(2), "text": texts(3, 1)}
    axes = saywhy.Input(shared=["text"])
    e = saywhy.explain(Compared(), given, target=[0, 1], method="hirescam", axes=axes)
    assert [quarter(m) for m in e.maps[1]] == [3, 1]
    with pytest.raises(InputError, match=r"no argument 'words'.*'image', 'text'"):
        saywhy.explain(Compared(), given, target=0, axes=saywhy.Input(shared=["words"]))


class TwoImages(nn.Module):
    """A network of two images, of which the second decides."""

    def __init__(self) -> None:
        super().__init__()
        self.pairs = Compared()

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        features = self.pairs.quarters(second)
        return features + 0 * first.mean((1, 2, 3)).unsqueeze(1)


def test_declared_argument_is_the_one_that_is_explained() -> None:
    given = (images(2), images(2))
    e = saywhy.explain(TwoImages(), given, target=2, method="saliency", axes=saywhy.Input(argument=1))
    assert [quarter(m) for m in e.maps[:, 0]] == [2, 2]


class OneAtATime(nn.Module):
    """A network that takes one image, and boxes of it."""

    def __init__(self) -> None:
        super().__init__()
        self.pairs = Compared()

    def forward(self, image: Tensor, boxes: Tensor) -> Tensor:
        (one,) = image
        features = self.pairs.quarters(one[None])
        return features * boxes.mean()


@pytest.mark.parametrize("method", ["hirescam", "saliency", "occlusion", "scorecam"])
def test_network_of_one_sample_at_a_time_is_run_so(method: str) -> None:
    e = saywhy.explain(OneAtATime(), (images(1), torch.rand(5, 4) + 1), target=2, **settings(method))
    assert quarter(e.maps[0, 0]) == 2


def test_several_values_of_a_regression_are_explained_in_a_batch(images):
    """Occlusion explains probabilities by default, and values have none."""
    model = saywhy.load(nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 3)), scale="value")
    e = saywhy.explain(model, images(2), [0, 2], "occlusion")
    torch.testing.assert_close(e.scores, model.module(images(2))[:, [0, 2]].detach())
