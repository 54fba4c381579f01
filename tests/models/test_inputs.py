"""Inputs of the network: images, tensors and arguments of every kind, and inputs that are refused."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import saywhy
from saywhy.errors import GradientError, InputError, LayerError, ModelError, SaywhyError, TargetError, WeightsError

Build = Callable[..., Any]


def assert_refused(network: Any, given: Any, *words: str, error: type[Exception] = InputError, **settings: Any) -> None:
    """An error of exactly this type whose message has these words."""
    with pytest.raises(SaywhyError) as caught:
        saywhy.explain(network, given, **settings)
    assert type(caught.value) is error, repr(caught.value)
    for word in words:
        assert word in str(caught.value), f"'{word}' is not in: {caught.value}"


def explained(network: Any, given: Any, **settings: Any) -> saywhy.Explanation:
    e = saywhy.explain(network, given, target=0, relu=False, **settings)
    assert bool(torch.isfinite(e.maps).all())
    assert bool(e.maps.any())
    return e


@pytest.fixture
def model(tiny: Build) -> saywhy.Model:
    """A model with preprocessing."""
    return saywhy.load(tiny(), input_size=16)


# --- images ----------------------------------------------------------------------------------------------------


def test_path_pil_and_array_give_the_same_map(model: saywhy.Model, tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(array).save(tmp_path / "a.png")
    ways = [tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(array), array, [array], (array,), array / 255]
    maps = [explained(model, way).maps for way in ways]
    for other in maps[1:]:
        torch.testing.assert_close(other, maps[0])


def test_images_keep_their_names(model: saywhy.Model, tmp_path: Path) -> None:
    Image.new("RGB", (20, 20), "teal").save(tmp_path / "teal.png")
    array = np.zeros((20, 20, 3), np.uint8)
    e = explained(model, [tmp_path / "teal.png", array, Image.open(tmp_path / "teal.png")])
    assert [p.name for p in e.images] == ["teal.png", "image 1", "teal.png"]
    assert explained(model, array).images[0].name == "image"


def test_resized_images_of_several_sizes_form_a_batch(model: saywhy.Model) -> None:
    given = [np.zeros((20, 30, 3), np.uint8), np.full((40, 17), 99, np.uint8)]
    e = explained(model, given)
    assert e.maps.shape[0] == 2
    assert [p.image.size for p in e.images] == [(30, 20), (17, 40)]


def test_unresized_images_of_several_sizes_raise(tiny: Build) -> None:
    model = saywhy.load(tiny(), preprocess=saywhy.Preprocess(resize=None, crop=None))
    given = [np.zeros((20, 30, 3), np.uint8), np.zeros((20, 31, 3), np.uint8)]
    assert_refused(model, given, "several sizes", "[3, 20, 30], [3, 20, 31]", "input_size=")


def test_image_without_preprocessing_raises(tiny: Build) -> None:
    assert_refused(
        tiny(), np.zeros((20, 20, 3), np.uint8), "TinyNetwork", "bare network", "input_size=224", "preprocess="
    )


def test_tensors_of_several_sizes_raise(tiny: Build) -> None:
    given = [torch.rand(3, 16, 16), torch.rand(3, 16, 17)]
    assert_refused(tiny(), given, "several shapes", "(3, 16, 16), (3, 16, 17)")


def test_a_list_of_tensors_is_a_batch(tiny: Build) -> None:
    some = [torch.rand(3, 16, 16) for _ in range(3)]
    torch.testing.assert_close(explained(tiny(), some).maps, explained(tiny(), torch.stack(some)).maps)
    assert explained(tiny(), [torch.rand(2, 3, 16, 16), torch.rand(1, 3, 16, 16)]).maps.shape[0] == 3


@pytest.mark.parametrize("given", [[], (), {}], ids=["list", "tuple", "dict"])
def test_empty_input_raises(model: saywhy.Model, given: Any) -> None:
    assert_refused(model, given, "nothing to explain", "empty")


@pytest.mark.parametrize("given", [None, 7, object(), b"x", {1, 2}], ids=["none", "int", "object", "bytes", "set"])
def test_input_of_other_type_raises(model: saywhy.Model, given: Any) -> None:
    assert_refused(model, given, "expected a path", type(given).__name__)


def test_list_of_mixed_types_raises(model: saywhy.Model) -> None:
    assert_refused(model, [torch.rand(3, 16, 16), "a.png"], "list of Tensor, str")


def test_generator_raises(model: saywhy.Model) -> None:
    assert_refused(model, (np.zeros((9, 9, 3)) for _ in range(2)), "generator")


def test_extremely_narrow_image_raises(tiny: Build) -> None:
    assert_refused(
        saywhy.load(tiny(), input_size=224),
        np.zeros((1, 60_000, 3), np.uint8),
        "60000 × 1",
        error=saywhy.errors.ImageError,
    )


# --- tensors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_infinity_raise(tiny: Build, wrong: float) -> None:
    tensor = torch.rand(2, 3, 16, 16)
    tensor[1, 2, 3, 4] = wrong
    assert_refused(tiny(), tensor, "NaN or infinity", "preprocessing")
    assert_refused(tiny(), {"images": tensor}, "NaN or infinity")


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool, torch.complex64])
def test_non_float_tensors_raise(tiny: Build, dtype: torch.dtype) -> None:
    assert_refused(tiny(), torch.zeros(1, 3, 16, 16).to(dtype), "floating-point", str(dtype), "numpy")


@pytest.mark.parametrize("shape", [(), (5,), (16, 16)])
def test_tensors_of_too_few_axes_raise(tiny: Build, shape: tuple[int, ...]) -> None:
    assert_refused(tiny(), torch.rand(shape), "[batch, channel, height, width]", str(list(shape)))


@pytest.mark.parametrize("shape", [(1, 3, 4, 16, 16), (2, 4, 16, 16), (2, 1, 16, 16), (4, 16, 16)])
def test_tensors_the_network_rejects_raise(tiny: Build, shape: tuple[int, ...]) -> None:
    assert_refused(tiny(), torch.rand(shape), "TinyNetwork does not take this input", f"float32 {list(shape)}")


@pytest.mark.parametrize("shape", [(0, 3, 16, 16), (1, 3, 0, 16), (0,) * 4])
def test_empty_tensors_raise(tiny: Build, shape: tuple[int, ...]) -> None:
    assert_refused(tiny(), torch.rand(shape), "nothing to explain", str(list(shape)))
    assert_refused(tiny(), {"images": torch.rand(shape)}, "nothing to explain", str(list(shape)))


def test_single_image_tensor_gets_a_batch_axis(tiny: Build) -> None:
    tensor = torch.rand(3, 16, 16)
    torch.testing.assert_close(explained(tiny(), tensor).maps, explained(tiny(), tensor[None]).maps)


def test_single_13_channel_tensor_gets_a_batch_axis() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(13, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    tensor = torch.rand(13, 16, 16)
    torch.testing.assert_close(explained(network, tensor).maps, explained(network, tensor[None]).maps)


def test_batch_of_signals_keeps_its_batch_axis(tiny: Build) -> None:
    assert explained(tiny(axes=1), torch.rand(3, 3, 32)).maps.shape[0] == 3


def test_volumes_give_volume_maps(tiny: Build) -> None:
    e = explained(tiny(axes=3), torch.rand(2, 3, 8, 8, 8))
    assert e.maps.shape == (2, 1, 4, 4, 4)
    assert e.heatmap().shape == (2, 1, 8, 8, 8)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_the_input_is_brought_to_the_precision_of_the_network(tiny: Build, dtype: torch.dtype) -> None:
    network, tensor = tiny(dtype=dtype), torch.rand(2, 3, 16, 16)
    e = explained(network, tensor)
    assert e.maps.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    expected = explained(tiny(), tensor.to(dtype).float()).maps
    assert float((e.maps - expected).norm() / expected.norm()) < 0.2


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_inputs_of_other_precision_give_float32_maps(tiny: Build, dtype: torch.dtype) -> None:
    assert explained(tiny(), torch.rand(2, 3, 16, 16).to(dtype)).maps.dtype == torch.float32


def test_the_tensor_of_the_user_is_not_touched(tiny: Build) -> None:
    tensor = torch.rand(2, 3, 16, 16, requires_grad=True)
    before, version = tensor.detach().clone(), tensor._version
    explained(tiny(), tensor)
    assert torch.equal(tensor, before)
    assert tensor._version == version
    assert tensor.grad is None


def test_memory_format_does_not_change_the_map(tiny: Build) -> None:
    tensor = torch.rand(2, 3, 16, 16)
    expected = explained(tiny(), tensor).maps
    torch.testing.assert_close(explained(tiny(), tensor.to(memory_format=torch.channels_last)).maps, expected)
    torch.testing.assert_close(explained(tiny(), tensor.mT.contiguous().mT).maps, expected)


# --- several arguments -------------------------------------------------------------------------------------------


class ImageAndQuestion(nn.Module):
    """An image and a question: two arguments."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.words = network, nn.Embedding(5, 4)

    def forward(self, image: Tensor, question: Tensor) -> Tensor:
        return self.network(image) * self.words(question)


class OneDict(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.network(batch["image"])


def test_arguments_by_name_equal_arguments_by_position(tiny: Build) -> None:
    network = ImageAndQuestion(tiny())
    image, question = torch.rand(3, 3, 16, 16), torch.tensor([1, 2, 4])
    by_name = explained(network, {"question": question, "image": image})
    by_place = explained(network, (image, question))
    torch.testing.assert_close(by_name.maps, by_place.maps)
    single = explained(network, (image[2:], question[2:]))
    torch.testing.assert_close(by_name.maps[2:], single.maps)
    torch.testing.assert_close(explained(network, (image, question), batch_size=2).maps, by_name.maps)


def test_dict_argument_is_passed_whole(tiny: Build) -> None:
    image = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(explained(OneDict(tiny()), {"image": image}).maps, explained(tiny(), image).maps)


def test_arguments_without_an_image_raise(tiny: Build) -> None:
    assert_refused(
        ImageAndQuestion(tiny()), {"question": torch.tensor([1])}, "no image", "[batch, channel, height, width]"
    )
    assert_refused(ImageAndQuestion(tiny()), ("what?", 7), "no image")


def test_missing_argument_raises(tiny: Build) -> None:
    assert_refused(
        ImageAndQuestion(tiny()), torch.rand(1, 3, 16, 16), "ImageAndQuestion does not take this input", "question"
    )


def test_misspelt_argument_raises_with_nearest_name(tiny: Build) -> None:
    given = {"image": torch.rand(1, 3, 16, 16), "qestion": torch.tensor([1])}
    assert_refused(ImageAndQuestion(tiny()), given, "forward(image, question)", "'qestion'", "Nearest: 'question'")


def test_arguments_of_different_batch_sizes_raise(tiny: Build) -> None:
    given = (torch.rand(2, 3, 16, 16), torch.tensor([1, 2, 3]))
    with pytest.raises(SaywhyError, match=r"\[3, 4\]|\[2, 3, 16, 16\]"):
        saywhy.explain(ImageAndQuestion(tiny()), given)


# --- networks of every kind --------------------------------------------------------------------------------------


class Wrapped(nn.Module):
    """Returns its scores as somebody likes."""

    def __init__(self, network: nn.Module, wrap: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.network, self.wrap = network, wrap

    def forward(self, x: Tensor) -> Any:
        return self.wrap(self.network(x))


@dataclass
class Output:
    loss: Tensor | None = None
    logits: Tensor | None = None


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: (s, "more"),
        lambda s: [s, s * 2],
        lambda s: {"logits": s},
        lambda s: {"aux": s[:, :1, None, None], "scores": s},
        lambda s: Output(logits=s),
        lambda s: {"hidden": {"deep": (None, s)}},
    ],
    ids=["tuple", "list", "dict", "named in a dict", "dataclass", "nested"],
)
def test_scores_are_found_in_structured_outputs(tiny: Build, wrap: Any) -> None:
    tensor = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(explained(Wrapped(tiny(), wrap), tensor).maps, explained(tiny(), tensor).maps)


def test_output_path_selects_the_scores(tiny: Build) -> None:
    network = Wrapped(tiny(), lambda s: {"main": s, "side": {"logits": -s}})
    tensor = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(explained(network, tensor, output="side.logits").maps, -explained(tiny(), tensor).maps)
    assert_refused(network, tensor, "no 'sid'", "main, side", error=TargetError, output="sid")


@pytest.mark.parametrize("wrap", [lambda s: None, lambda s: "cat", lambda s: s[:, :, None, None]])
def test_output_without_scores_raises(tiny: Build, wrap: Any) -> None:
    assert_refused(Wrapped(tiny(), wrap), torch.rand(2, 3, 16, 16), "no class scores", error=TargetError)


def test_failing_network_raises_and_is_restored(tiny: Build) -> None:
    def fail(_: Tensor) -> None:
        raise KeyError("the table of names")

    network = Wrapped(tiny(), fail).train()
    assert_refused(
        network, torch.rand(2, 3, 16, 16), "Wrapped does not take", "float32 [", "KeyError", "table of names"
    )
    assert network.training
    assert not any(m._forward_hooks for m in network.modules())


def test_repeated_layer_is_selected_by_call_number() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.tied, self.fc = (
                nn.Conv2d(3, 4, 3, padding=1),
                nn.Conv2d(4, 4, 3, padding=1),
                nn.Linear(4, 3),
            )

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.tied(torch.relu(self.stem(x))))
            return self.fc((torch.relu(self.tied(x)) ** 2).mean((2, 3)))

    torch.manual_seed(0)
    network, tensor = Twice(), torch.rand(1, 3, 16, 16)
    first, last = explained(network, tensor, layer="tied#0"), explained(network, tensor, layer="tied")
    assert first.layers == ("tied#0",)
    assert not torch.allclose(first.maps, last.maps)
    torch.testing.assert_close(explained(network, tensor, layer="tied#1").maps, last.maps)
    assert_refused(network, tensor, "tied", "2 times", error=LayerError, layer="tied#2")


def test_map_is_independent_of_training_and_gradient_modes(tiny: Build) -> None:
    tensor = torch.rand(2, 3, 16, 16)
    expected = explained(tiny(), tensor).maps
    training, frozen = tiny().train(), tiny().requires_grad_(False)
    torch.testing.assert_close(explained(training, tensor).maps, expected)
    assert training.training
    torch.testing.assert_close(explained(frozen, tensor).maps, expected)
    with torch.no_grad():
        torch.testing.assert_close(explained(tiny(), tensor).maps, expected)
    network = tiny()
    with torch.inference_mode():
        torch.testing.assert_close(explained(network, tensor.clone()).maps, expected)


def test_network_made_in_inference_mode_raises(tiny: Build) -> None:
    with torch.inference_mode():
        network = tiny()
    assert_refused(network, torch.rand(1, 3, 16, 16), "inference_mode", "outside that block", error=GradientError)


def test_network_without_parameters_is_explained() -> None:
    class Sums(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.AvgPool2d(2)

        def forward(self, x: Tensor) -> Tensor:
            return (self.features(x) ** 2).sum((2, 3))

    e = explained(Sums(), torch.rand(2, 3, 16, 16), layer="features")
    assert len(e.provenance["weights_sha256"]) == 64


def test_network_without_modules_raises() -> None:
    class Nothing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean((2, 3))

    with pytest.raises(LayerError):
        saywhy.explain(Nothing(), torch.rand(1, 3, 16, 16))


def test_network_on_meta_device_raises(tiny: Build) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()).to("meta")
    assert_refused(network, torch.rand(1, 3, 16, 16), "'0.weight'", "'meta'", "no values", error=ModelError)


def test_lazy_network_raises() -> None:
    network = nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    assert_refused(network, torch.rand(1, 3, 16, 16), "'0.weight'", "first call", error=ModelError)
    assert isinstance(network[0], nn.LazyConv2d)


def test_nan_weights_raise(tiny: Build) -> None:
    network = tiny()
    network.fc.weight.data[1, 2] = float("nan")
    assert_refused(network, torch.rand(1, 3, 16, 16), "NaN", "'fc.weight'", error=WeightsError)


def test_nan_output_of_finite_weights_raises(tiny: Build) -> None:
    network = Wrapped(tiny(), lambda s: s / 0)
    assert_refused(network, torch.rand(1, 3, 16, 16), "NaN or infinite", "float32", error=WeightsError)


def test_network_of_batch_size_one_raises_for_two_images() -> None:
    class Single(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 16 * 16, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(torch.relu(self.features(x)).view(1, 4 * 16 * 16))

    torch.manual_seed(0)
    assert explained(Single(), torch.rand(1, 3, 16, 16)).maps.shape == (1, 1, 16, 16)
    assert_refused(Single(), torch.rand(2, 3, 16, 16), "does not take this input", "[2, 3, 16, 16]")


# --- what is misspelt --------------------------------------------------------------------------------------------


def test_unknown_classes_raise(tiny: Build) -> None:
    model = saywhy.load(tiny(), labels=["tabby", "tiger cat", "boxer", "goose"])
    tensor = torch.rand(1, 3, 16, 16)
    assert_refused(model, tensor, "'tigger cat'", "nearest: 'tiger cat' (1)", error=TargetError, target="tigger cat")
    assert_refused(model, tensor, "no class 4", "0 to 3", error=TargetError, target=4)
    assert_refused(tiny(), tensor, "no labels", "0 to 3", error=TargetError, target="cat")


def test_unknown_layers_raise(tiny: Build) -> None:
    tensor = torch.rand(1, 3, 16, 16)
    assert_refused(tiny(), tensor, "'feature'", "'features'", error=LayerError, layer="feature")
    assert_refused(tiny(), tensor, "'fc'", "before the pooling", error=LayerError, layer="fc")
    assert_refused(tiny(), tensor, "empty list", layer=[])
    with pytest.raises(LayerError):
        saywhy.explain(tiny(), tensor, layer=nn.Conv2d(3, 4, 3))


def test_unknown_methods_and_parameters_raise(tiny: Build) -> None:
    tensor = torch.rand(1, 3, 16, 16)
    errors = saywhy.errors
    assert_refused(tiny(), tensor, "'gradcamm'", "'gradcam'", error=errors.MethodError, method="gradcamm")
    assert_refused(tiny(), tensor, "empty list", error=errors.MethodError, method=[])
    assert_refused(tiny(), tensor, "no parameter 'rleu'", "relu", error=errors.MethodError, rleu=False)
    assert_refused(tiny(), tensor, "precision must be exact or fast, got 'quick'", precision="quick")
    assert_refused(tiny(), tensor, "batch_size", "0", batch_size=0)
    assert_refused(tiny(), tensor, "'probabilty'", error=TargetError, score="probabilty", target=0)
    assert_refused(
        tiny(), tensor, "fuse must be mean, max, product", "'median'", error=errors.MethodError, fuse="median"
    )
    assert_refused(tiny(), tensor, "keep_model must be true or false, got 'no'", keep_model="no")


# --- images and words ------------------------------------------------------------------------------------------


class ImageAndText(nn.Module):
    """A network of an image and a question."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.features = nn.Sequential(
                nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1)
            )
            self.words = nn.EmbeddingBag(20, 6, mode="mean", padding_idx=0)
            self.answer = nn.Linear(6, 3)

    def forward(self, image: Tensor, question: Tensor) -> dict[str, Tensor]:
        return {
            "logits": self.answer((self.features(image).relu() * self.words(question)[:, :, None, None]).mean((2, 3)))
        }


@pytest.fixture
def vqa() -> saywhy.Model:
    from saywhy.tasks.vocabulary import Vocabulary

    known = Vocabulary.of(["is there a cat", "where is the dog"])
    return dataclasses.replace(saywhy.load(ImageAndText(), input_size=16), texts={"question": known.batch})


def test_image_and_question_are_explained(vqa: saywhy.Model, tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(array).save(tmp_path / "a.png")
    e = explained(vqa, {"image": tmp_path / "a.png", "question": "where is the cat?"})
    assert e.images[0].name == "a.png · where is the cat?"
    assert e.images[0].image.size == (30, 20)
    fed, _ = vqa.preprocess(Image.fromarray(array))
    tensors = explained(vqa, {"image": fed[None], "question": "where is the cat?"})
    torch.testing.assert_close(tensors.maps, e.maps)


def test_one_image_is_repeated_for_several_questions(vqa: saywhy.Model) -> None:
    array = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    questions = ["where is the cat?", "is there a dog", "cat"]
    together = explained(vqa, {"image": array, "question": questions})
    alone = [explained(vqa, {"image": array, "question": question}).maps for question in questions]
    torch.testing.assert_close(together.maps, torch.cat(alone))
    assert [p.name for p in together.images][1] == "image · is there a dog"


def test_one_question_is_repeated_for_several_images(vqa: saywhy.Model) -> None:
    arrays = list(np.random.default_rng(0).integers(0, 256, (2, 20, 30, 3), dtype=np.uint8))
    together = explained(vqa, {"question": "is there a dog", "image": arrays})
    alone = [explained(vqa, {"image": array, "question": ["is there a dog"]}).maps for array in arrays]
    torch.testing.assert_close(together.maps, torch.cat(alone))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"question": ""}, ("at least one word",)),
        ({"question": "cat " * 1000}, ("1000 words are too many",)),
        ({"question": "где кошка"}, ("none of the words",)),
        ({"question": 7}, ("'question' is a text or a list of texts, got int",)),
        ({"question": []}, ("'question' is a text or a list of texts",)),
        ({"question": ["cat", "dog", "cat"]}, ("2 images and 3 of 'question' do not go together",)),
        ({"image": "no/such.png"}, ("no/such.png",)),
        ({"mask": torch.zeros(1, 3, 4, 4)}, ("takes one image besides question; got image, mask",)),
    ],
)
def test_invalid_questions_raise(vqa: saywhy.Model, change: dict[str, Any], words: tuple[str, ...]) -> None:
    given = {"image": [np.zeros((20, 20, 3), np.uint8)] * 2, "question": "is there a cat", **change}
    with pytest.raises(SaywhyError) as caught:
        saywhy.explain(vqa, given)
    for word in words:
        assert word in str(caught.value)
