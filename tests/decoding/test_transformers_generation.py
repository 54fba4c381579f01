"""Models of transformers as step functions: what ``generate`` finds, of five families, cache and all."""

from typing import Any

import pytest
import torch
from torch import Tensor

from saywhy.decoding import beam_search, diverse_beam_search, greedy
from saywhy.decoding.transformers_generation import generation
from saywhy.errors import InputError, ModelError, SaywhyWarning

transformers = pytest.importorskip("transformers", reason="needs the package transformers")

WORDS, END, PAD, START, MAX_LENGTH = 13, 12, 0, 1, 7
TEXT = {
    "input_ids": torch.tensor([[5, 3, 7, 4], [2, 2, 9, 6], [11, 4, 10, 8]]),
    "attention_mask": torch.ones(3, 4).long(),
}


def gpt2() -> tuple[Any, dict[str, Tensor]]:
    config = transformers.GPT2Config(
        vocab_size=WORDS, n_positions=32, n_embd=16, n_layer=2, n_head=2, initializer_range=0.25, **ENDS
    )
    return transformers.GPT2LMHeadModel(config), TEXT


def llama() -> tuple[Any, dict[str, Tensor]]:
    config = transformers.LlamaConfig(
        vocab_size=WORDS, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, initializer_range=0.4, **ENDS,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config), TEXT


def bart() -> tuple[Any, dict[str, Tensor]]:
    config = transformers.BartConfig(
        vocab_size=WORDS, d_model=16, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=24, max_position_embeddings=32, init_std=0.4,
        decoder_start_token_id=START, forced_eos_token_id=None, forced_bos_token_id=None, **ENDS,
    )  # fmt: skip
    return transformers.BartForConditionalGeneration(config), TEXT


def t5() -> tuple[Any, dict[str, Tensor]]:
    config = transformers.T5Config(
        vocab_size=WORDS, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, initializer_factor=1.0,
        decoder_start_token_id=START, **ENDS,
    )  # fmt: skip
    return transformers.T5ForConditionalGeneration(config), TEXT


def vision() -> tuple[Any, dict[str, Tensor]]:
    eyes = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24, image_size=16, patch_size=8,
        initializer_range=0.4,
    )  # fmt: skip
    mouth = transformers.GPT2Config(
        vocab_size=WORDS, n_positions=32, n_embd=16, n_layer=2, n_head=2, initializer_range=0.4, is_decoder=True,
        add_cross_attention=True, **ENDS,
    )  # fmt: skip
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(eyes, mouth)
    config.decoder_start_token_id, config.eos_token_id, config.pad_token_id = START, END, PAD
    images = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return transformers.VisionEncoderDecoderModel(config), {"pixel_values": images}


ENDS: dict[str, Any] = {
    "eos_token_id": END, "pad_token_id": PAD, "bos_token_id": START, "tie_word_embeddings": False,
}  # fmt: skip
FAMILIES = {"gpt2": gpt2, "llama": llama, "bart": bart, "t5": t5, "vision": vision}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request) -> tuple[Any, dict[str, Tensor]]:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model, inputs = FAMILIES[request.param]()
    model = model.eval()
    model.generation_config.decoder_start_token_id = START
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = END, PAD
    return model, inputs


def generated(model: Any, inputs: dict[str, Tensor], **options: Any) -> list[list[int]]:
    """Behind the prompt, up to the end."""
    found = model.generate(**inputs, max_new_tokens=MAX_LENGTH, do_sample=False, **options)
    begin = 1 if model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
    rows = found[:, begin:].tolist()
    return [row[: row.index(END) + 1] if END in row else row[:MAX_LENGTH] for row in rows]


def words_of(found: Any) -> list[list[int]]:
    flat, lengths = found.words.flatten(0, 1).tolist(), found.lengths.flatten().tolist()
    return [row[:length] for row, length in zip(flat, lengths, strict=True)]


def test_greedy_equals_generate(family):
    model, inputs = family
    ready = generation(model, inputs)
    found = greedy(ready.step, ready.state, ready.start, end=ready.end, max_length=MAX_LENGTH)
    assert words_of(found) == generated(model, inputs)


@pytest.mark.slow
@pytest.mark.parametrize("num_beams", [2, 4])
def test_beam_search_with_reordered_cache_equals_generate(family, num_beams):
    model, inputs = family
    ready = generation(model, inputs)
    found = beam_search(ready.step, ready.state, ready.start, end=ready.end, max_length=MAX_LENGTH, num_beams=num_beams)
    options = {
        "num_beams": num_beams,
        "num_return_sequences": num_beams,
        "length_penalty": 0.0,
        "early_stopping": "never",
    }
    assert words_of(found) == generated(model, inputs, **options)


def test_diverse_beam_search_groups_start_with_different_words(family):
    model, inputs = family
    ready = generation(model, inputs)
    options: dict[str, Any] = {"end": ready.end, "max_length": MAX_LENGTH, "num_beams": 4, "num_beam_groups": 4}
    some = diverse_beam_search(ready.step, ready.state, ready.start, diversity_penalty=50.0, **options)
    firsts = some.found.words[..., 0]
    assert all(len(set(row)) == 4 for row in firsts.tolist())
    again = generation(model, inputs)
    plain = beam_search(again.step, again.state, again.start, end=END, max_length=MAX_LENGTH, num_beams=1, refill=False)
    assert [some.of_group(0, i)[0] for i in range(3)] == [plain.sentence(i) for i in range(3)]


@pytest.mark.slow
def test_generation_can_be_decoded_repeatedly(family):
    model, inputs = family
    ready = generation(model, inputs)
    options: dict[str, Any] = {"end": ready.end, "max_length": MAX_LENGTH, "num_beams": 4}
    first = beam_search(ready.step, ready.state, ready.start, **options)
    diverse_beam_search(ready.step, ready.state, ready.start, num_beam_groups=2, **options)
    assert words_of(beam_search(ready.step, ready.state, ready.start, **options)) == words_of(first)
    greedy(ready.step, ready.state, ready.start, end=ready.end, max_length=MAX_LENGTH)
    assert words_of(beam_search(ready.step, ready.state, ready.start, **options)) == words_of(first)


def test_left_padded_prompts_equal_single_prompts():
    torch.manual_seed(2)
    model, _ = gpt2()
    model = model.eval()
    short, long = torch.tensor([[7, 4]]), torch.tensor([[5, 3, 7, 4]])
    both = torch.tensor([[PAD, PAD, 7, 4], [5, 3, 7, 4]])
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    together = generation(model, {"input_ids": both, "attention_mask": mask})
    found = beam_search(together.step, together.state, together.start, end=END, max_length=MAX_LENGTH, num_beams=3)
    for i, alone in enumerate((short, long)):
        one = generation(model, {"input_ids": alone})
        wanted = beam_search(one.step, one.state, one.start, end=END, max_length=MAX_LENGTH, num_beams=3)
        assert words_of(found)[3 * i : 3 * i + 3] == words_of(wanted)
    with pytest.raises(InputError, match="at the left"):
        generation(model, {"input_ids": both.flip(1), "attention_mask": mask.flip(1)})


def test_prompt_of_one_token_equals_generate():
    torch.manual_seed(2)
    model, _ = gpt2()
    model, one = model.eval(), {"input_ids": torch.tensor([[5], [3]])}
    ready = generation(model, one)
    assert words_of(greedy(ready.step, ready.state, ready.start, end=END, max_length=MAX_LENGTH)) == generated(
        model, {**one, "attention_mask": torch.ones(2, 1).long()}
    )


class TestGenerationConfig:
    """Settings that ``generate`` reads are followed, or give a warning."""

    def decoded(self, model: Any, inputs: dict[str, Tensor]) -> tuple[list[list[int]], list[list[int]]]:
        ready = generation(model, inputs)
        assert PAD in ready.suppress_tokens
        suppress_tokens = [word for word in ready.suppress_tokens if word != PAD]  # which generate may say
        options: dict[str, Any] = {
            "end": ready.end,
            "max_length": MAX_LENGTH,
            "num_beams": 3,
            "suppress_tokens": suppress_tokens,
        }
        theirs = {"num_beams": 3, "num_return_sequences": 3, "length_penalty": 0.0, "early_stopping": "never"}
        ours = words_of(beam_search(ready.step, ready.state, ready.start, **options))
        return ours, generated(model, inputs, **theirs)

    @pytest.fixture
    def mbart(self) -> Any:
        torch.manual_seed(2)
        model = bart()[0].eval()
        model.generation_config.decoder_start_token_id = START
        model.generation_config.eos_token_id, model.generation_config.pad_token_id = END, PAD
        return model

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("forced_bos_token_id", 7),
            ("suppress_tokens", [3, 5, 9]),
            ("begin_suppress_tokens", [3, 5, 9]),
            ("bad_words_ids", [[4], [8]]),
        ],
    )
    def test_generation_config_setting_is_followed(self, mbart, name, value):
        setattr(mbart.generation_config, name, value)
        ours, theirs = self.decoded(mbart, TEXT)
        assert ours == theirs

    def test_several_eos_tokens_end_with_the_likeliest(self, mbart):
        ends = [END, 4, 7]
        mbart.generation_config.eos_token_id = ends
        ready = generation(mbart, TEXT)
        found = greedy(ready.step, ready.state, ready.start, end=ready.end, max_length=MAX_LENGTH)
        rows = mbart.generate(**TEXT, max_new_tokens=MAX_LENGTH, do_sample=False)[:, 1:].tolist()
        for row, ours in zip(rows, words_of(found), strict=True):
            stop = next((i for i, word in enumerate(row) if word in ends), len(row) - 1)
            assert ours[:-1] == row[:stop]
            assert ours[-1] == (END if row[stop] in ends else row[stop])

    def test_unsupported_settings_give_a_warning(self, mbart):
        mbart.generation_config.repetition_penalty = 2.0
        with pytest.warns(SaywhyWarning, match="repetition_penalty"):
            generation(mbart, TEXT)

    def test_decoder_input_ids_are_a_prompt(self, mbart):
        said = {**TEXT, "decoder_input_ids": torch.tensor([[START, 9, 8]]).expand(3, -1)}
        ready = generation(mbart, said)
        found = greedy(ready.step, ready.state, ready.start, end=ready.end, max_length=MAX_LENGTH)
        rows = mbart.generate(**said, max_new_tokens=MAX_LENGTH, do_sample=False)[:, 3:].tolist()
        assert words_of(found) == [row[: row.index(END) + 1] if END in row else row for row in rows]

    @pytest.mark.parametrize("inputs", [{"atention_mask": torch.ones(3, 4)}, {"labels": torch.ones(3, 4)}])
    def test_unknown_input_raises(self, mbart, inputs):
        with pytest.raises(InputError, match=next(iter(inputs))):
            generation(mbart, {**TEXT, **inputs})


class TestImagesInThePrompt:
    @pytest.fixture
    def git(self) -> tuple[Any, Tensor]:
        eyes = {
            "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
            "image_size": 16, "patch_size": 8, "initializer_range": 0.4,
        }  # fmt: skip
        config = transformers.GitConfig(
            vision_config=eyes, vocab_size=WORDS, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=24, max_position_embeddings=40, initializer_range=0.4, **ENDS,
        )  # fmt: skip
        torch.manual_seed(2)
        return transformers.GitForCausalLM(config).eval(), torch.randn(2, 3, 16, 16)

    @pytest.mark.parametrize("words", [[[1], [1]], [[1, 5], [1, 7]]], ids=["one word", "two"])
    def test_images_are_used_for_every_prompt_length(self, git, words):
        model, images = git
        inputs = {"pixel_values": images, "input_ids": torch.tensor(words)}
        ready = generation(model, inputs)
        found = beam_search(ready.step, ready.state, ready.start, end=ready.end, max_length=MAX_LENGTH, num_beams=3)
        options = {"num_beams": 3, "num_return_sequences": 3, "length_penalty": 0.0, "early_stopping": "never"}
        inputs["attention_mask"] = torch.ones(2, len(words[0])).long()
        assert words_of(found) == generated(model, inputs, **options)

    def test_image_placeholders_may_lie_outside_the_vocabulary(self, git):
        """Some models replace placeholders before they look up embeddings."""

        def replaced(_module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            return args, {**kwargs, "input_ids": kwargs["input_ids"].where(kwargs["input_ids"] < WORDS, START)}

        model, images = git
        model.register_forward_pre_hook(replaced, with_kwargs=True)
        ready = generation(model, {"pixel_values": images, "input_ids": torch.tensor([[99, 5], [99, 7]])})
        assert ready.start.tolist() == [5, 7]

    def test_multidimensional_position_ids_raise(self, git):
        model, images = git
        inputs = {"input_ids": torch.tensor([[1]]), "pixel_values": images, "image_grid_thw": torch.ones(1, 3)}
        with pytest.raises(ModelError, match="several directions"):
            generation(model, inputs)


def test_token_type_ids_and_float_masks_equal_generate():
    torch.manual_seed(2)
    model = gpt2()[0].eval()
    inputs = {**TEXT, "token_type_ids": torch.tensor([[0, 0, 1, 1]]).expand(3, -1)}
    ready = generation(model, {**inputs, "attention_mask": torch.ones(3, 4)})
    found = greedy(ready.step, ready.state, ready.start, end=ready.end, max_length=MAX_LENGTH)
    assert words_of(found) == generated(model, inputs)
    with pytest.raises(InputError, match="of the prompts' shape"):
        generation(model, {**TEXT, "attention_mask": torch.ones(3, 5)})
    with pytest.raises(InputError, match="'input_ids' is list"):
        generation(model, {"input_ids": [[1, 2]]})


def test_undecodable_models_and_inputs_raise(family):
    model, inputs = family
    with pytest.raises(ModelError, match="expected a model of transformers with generate"):
        generation(torch.nn.Linear(2, 2), inputs)
    with pytest.raises(InputError, match="got none"):
        generation(model, {})
    model.train()
    with pytest.raises(ModelError, match="training mode"):
        generation(model, inputs)
    model.eval()


class TestBadInput:
    """Each raises a saywhy error."""

    @pytest.fixture
    def model(self) -> Any:
        torch.manual_seed(2)
        return gpt2()[0].eval()

    @pytest.mark.parametrize(
        ("inputs", "message"),
        [
            ([1, 2], "got list"),
            (torch.tensor([[1, 2]]), "got Tensor"),
            ({"input_ids": torch.rand(1, 2)}, "whole numbers"),
            ({"input_ids": torch.tensor([1, 2])}, "whole numbers"),
            ({"input_ids": torch.tensor([[1, 99]])}, "from 0 to 12, and input_ids have 99"),
            ({"input_ids": torch.tensor([[1, -1]])}, "input_ids have -1"),
            ({**TEXT, "position_ids": torch.arange(4)[None]}, "position_ids are computed here"),
            ({**TEXT, "past_key_values": torch.ones(1)}, "past_key_values are computed here"),
        ],
    )
    def test_invalid_prompts_raise(self, model, inputs, message):
        with pytest.raises(InputError, match=message):
            generation(model, inputs)

    @pytest.mark.parametrize("said", [torch.tensor([START, 9]), torch.ones(3, 0).long(), torch.ones(1, 2).long()])
    def test_invalid_decoder_input_ids_raise(self, said):
        torch.manual_seed(2)
        model = bart()[0].eval()
        with pytest.raises(InputError, match=r"decoder_input_ids are whole numbers .* for 3 samples"):
            generation(model, {**TEXT, "decoder_input_ids": said})

    @pytest.mark.parametrize(("name", "value"), [("eos_token_id", [END, 77]), ("begin_suppress_tokens", [99])])
    def test_tokens_outside_the_vocabulary_raise(self, model, name, value):
        setattr(model.generation_config, name, value)
        with pytest.raises(InputError, match="has words from 0 to 12"):
            generation(model, TEXT)

    @pytest.mark.parametrize("filling", [-1, 99])
    def test_padding_token_outside_the_vocabulary_is_not_suppressed(self, model, filling):
        model.config.pad_token_id = model.generation_config.pad_token_id = filling
        ready = generation(model, TEXT)
        assert ready.suppress_tokens == ()
        assert greedy(
            ready.step, ready.state, ready.start, end=END, max_length=2, suppress_tokens=ready.suppress_tokens
        ).exists.all()

    def test_input_of_none_is_ignored(self, model):
        assert generation(model, {**TEXT, "position_ids": None}).end == END

    def test_exceeding_max_positions_raises(self, model):
        ready = generation(model, TEXT)
        with pytest.raises(InputError, match="at most 32 words"):
            greedy(ready.step, ready.state, ready.start, end=END, max_length=40, min_length=40)

    def test_state_space_model_raises(self):
        config = transformers.MambaConfig(
            vocab_size=WORDS, hidden_size=16, num_hidden_layers=2, state_size=4, eos_token_id=END, pad_token_id=PAD
        )
        with pytest.raises(ModelError, match="keeps a state and no words"):
            generation(transformers.MambaForCausalLM(config).eval(), {"input_ids": TEXT["input_ids"]})


def test_double_precision_model_gives_float64_totals():
    torch.manual_seed(2)
    ready = generation(gpt2()[0].double().eval(), TEXT)
    found = greedy(ready.step, ready.state, ready.start, end=END, max_length=MAX_LENGTH)
    assert found.totals.dtype is torch.float64
