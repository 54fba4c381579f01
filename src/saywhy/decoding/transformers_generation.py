"""Step functions of transformers models that ``generate`` with a cache, for the decoders of this package.

The prompt is processed in one pass, as ``generate`` does. Previous words are kept in the key-value cache of
transformers, whose rows are selected with the hypotheses. An encoder runs once, and its output is indexed by the sample
of each row.
"""

import inspect
from collections.abc import Collection, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from saywhy.decoding.generation_rules import GenerationRules, setting, token_ids
from saywhy.decoding.step import DecoderState, LogProbabilities, Rows, Step
from saywhy.errors import InputError, ModelError
from saywhy.shapes import at_least_float32


@dataclass(frozen=True)
class Generation:
    """The arguments of a decoder: ``beam_search(g.step, g.state, g.start, end=g.end, max_length=20)``.

    Attributes:
        step: the step function.
        state: the state after the prompt.
        start: [batch] the last word of every prompt, or the decoder's start word.
        end: the word that finishes a sentence; it represents all end words where there are several.
        suppress_tokens: words that are never generated: padding, unless it is the end, and the words that the
            configuration suppresses.
    """

    step: Step
    state: DecoderState
    start: Int[Tensor, " batch"]
    end: int
    suppress_tokens: tuple[int, ...] = ()


@torch.no_grad()
def generation(model: Any, inputs: Mapping[str, Tensor], end: int | None = None) -> Generation:
    """Prepare a transformers model and its inputs for decoding.

    These settings of the model's configuration are followed: the end words, padding, ``suppress_tokens``,
    ``begin_suppress_tokens``, ``forced_bos_token_id`` and single ``bad_words_ids``. Other settings that change the
    generated text (such as ``repetition_penalty``) give a warning. Settings of the search (``num_beams``,
    ``length_penalty``, ``early_stopping``) are ignored, because the decoder has its own. A sentence that reaches the
    maximum length is cut off and marked as unfinished, where ``forced_eos_token_id`` would replace its last word by an
    end. If there are several end words, the likeliest one counts, and the first represents it.

    Args:
        model: a model with ``generate`` and a cache, in evaluation mode: an encoder–decoder (BART, T5, Whisper, vision
            encoder–decoders), or a decoder only (GPT-2, Llama, LLaVA).
        inputs: the output of its processor or tokenizer: ``input_ids`` and ``attention_mask`` (prompts of a decoder
            are padded on the left), ``pixel_values``, ``decoder_input_ids``, and so on.
        end: the word that finishes a sentence; None takes the end words of the model's configuration.

    Raises:
        ModelError: the model cannot generate, is in training mode, returns no cache (RWKV; BLIP, which keeps it
            internally), has a recurrent state only (Mamba), or has multi-dimensional position ids (Qwen2-VL).
        InputError: there are no inputs, the model does not take one of them, a prompt is padded on the right or has
            words outside the vocabulary, or there is no end word.

    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> gpt = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1, eos_token_id=8)).eval()
    >>> ready = generation(gpt, {"input_ids": torch.tensor([[1, 2, 3]])})
    >>> from saywhy.decoding import diverse_beam_search
    >>> settings = {"max_length": 5, "num_beams": 4, "num_beam_groups": 2}
    >>> some = diverse_beam_search(ready.step, ready.state, ready.start, end=ready.end, **settings)
    >>> some.found.words.shape
    torch.Size([1, 4, 5])
    """
    if not callable(getattr(model, "generate", None)) or not hasattr(model, "config"):
        raise ModelError(f"expected a model of transformers with generate and a config, got {type(model).__name__}.")
    if model.training:
        raise ModelError("the model is in training mode, where dropout changes every word. Call model.eval().")
    if not isinstance(inputs, Mapping) or not inputs:
        got = "none" if isinstance(inputs, Mapping) else type(inputs).__name__
        raise InputError(f"expected the output of the model's tokenizer or processor (tensors by name), got {got}.")
    for name, value in inputs.items():
        if value is not None and not isinstance(value, Tensor):
            raise InputError(f"inputs must be tensors, '{name}' is {type(value).__name__}. Use return_tensors='pt'.")
    settings = getattr(model, "generation_config", model.config)
    rules = GenerationRules.of(settings, model.config, end)
    given = {name: value for name, value in inputs.items() if value is not None}
    if taken := [name for name in given if name in _COMPUTED_INPUTS]:
        raise InputError(f"{', '.join(taken)} are computed here at every step. Remove them from the inputs.")
    begin = _read_encoder if model.config.is_encoder_decoder else _read_prompt
    state, start = begin(model, given, settings, rules)
    assert state.first is not None
    suppress_tokens = tuple(
        word for word in rules.suppress_tokens if 0 <= word < state.first.shape[1]
    )  # others are outside the vocabulary
    return Generation(_Step(model, rules), state, start, rules.ends[0], suppress_tokens)


_COMPUTED_INPUTS = ("position_ids", "cache_position", "past_key_values", "cache")
"""Inputs that are computed at every step."""


@dataclass(frozen=True)
class _CachedState:
    """The decoding state: the key-value cache of every row.

    Attributes:
        cache: keys and values, as transformers keeps them.
        sample: [row] the sample of each row.
        first: [row, word] log-probabilities of the word after the prompt; None after the first step.
        mask: [row, word] the attention mask of prompt and sentence; None for an encoder–decoder.
        numbered: whether the model needs explicit position ids, because its cache holds image tokens too.
        kind: [row] the ``token_type_ids`` of the prompt's last word; None where prompts have none.
        encoded: the encoder's output for every sample, and its mask.
        prompt: whether the cache is that of the prompts, which other searches share. transformers writes into caches,
            so a search copies it first.
    """

    cache: Any
    sample: Rows
    first: LogProbabilities | None
    mask: Tensor | None = None
    numbered: bool = False
    kind: Tensor | None = None
    encoded: tuple[Tensor, Tensor | None] | None = None
    prompt: bool = True

    def own(self) -> "_CachedState":
        """Return the state with a cache that may be written into."""
        return replace(self, cache=deepcopy(self.cache), prompt=False) if self.prompt else self

    def reordered(self, rows: Rows) -> "_CachedState":
        """Return the state of these rows, in this order."""
        own = self.own()
        own.cache.reorder_cache(rows)
        first, mask, kind = (None if part is None else part[rows] for part in (own.first, own.mask, own.kind))
        return replace(own, sample=own.sample[rows], first=first, mask=mask, kind=kind)


class _Step:
    """The step function of a transformers model."""

    def __init__(self, model: Any, rules: GenerationRules) -> None:
        self.model, self.rules = model, rules
        self.takes: Collection[str] = inspect.signature(model.forward).parameters
        self.cache = _cache_of(self.takes)

    def __call__(self, words: Rows, state: _CachedState) -> tuple[LogProbabilities, _CachedState]:
        """Return the log-probabilities of the next words, and the next state."""
        if state.first is not None:  # the pass over the prompt included its last word
            return state.first, replace(state, first=None)
        state = state.own()
        given: dict[str, Any] = {self.cache: state.cache, "use_cache": True}
        if state.encoded is None:
            assert state.mask is not None
            mask = torch.cat([state.mask, state.mask.new_ones(len(words), 1)], 1)
            state = replace(state, mask=mask)
            given |= {"input_ids": words.unsqueeze(1), "attention_mask": mask} | _position_ids(
                self.takes, mask, 1, state.numbered
            )
            if state.kind is not None:
                given["token_type_ids"] = state.kind.unsqueeze(1)
        else:
            given |= {
                "decoder_input_ids": words.unsqueeze(1),
                **_encoder_inputs(self.takes, state.encoded, state.sample),
            }
        logs, cache = _forward(self.model, given, self.cache)
        return self.rules.merge_ends(logs), replace(state, cache=cache)


def _forward(model: Any, given: Mapping[str, Any], name: str) -> tuple[LogProbabilities, Any]:
    """Run the model; return the log-probabilities after the last word, and the cache (the output called ``name``)."""
    try:
        out = model(**given)
    except IndexError as error:
        most = getattr(model.config, "max_position_embeddings", "so many")
        raise InputError(
            f"{type(model).__name__} does not take another word: prompt and sentence together have at most {most} "
            f"words, all of its vocabulary. Use a smaller max_length=, or a shorter prompt. ({error})"
        ) from error
    cache = getattr(out, name, None)
    if cache is None:
        raise ModelError(
            f"expected a model that returns its key-value cache, got {type(model).__name__}, which returns no {name}. "
            "Decode it with its own generate, or pass a part of it that returns a cache, such as its decoder."
        )
    return at_least_float32(out.logits[:, -1]).log_softmax(-1), cache


def _check_prompts(model: Any, words: Tensor, *, alone: bool) -> None:
    """Check that prompts are [batch, word], and in the model's vocabulary if there are no other inputs (an image)."""
    if words.ndim != 2 or not words.numel() or words.is_floating_point() or words.dtype is torch.bool:
        raise InputError(f"input_ids are whole numbers [batch, word], at least one word each, got {_describe(words)}.")
    if not alone:
        return
    embedded = model.get_input_embeddings() if hasattr(model, "get_input_embeddings") else None
    known = getattr(embedded, "num_embeddings", None)
    least, most = int(words.min()), int(words.max())
    if known is not None and not 0 <= least <= most < known:
        strange = most if least >= 0 else least
        raise InputError(f"{type(model).__name__} reads words from 0 to {known - 1}, and input_ids have {strange}.")


def _describe(tensor: Tensor) -> str:
    return f"{tensor.dtype} {list(tensor.shape)}"


def _cache_of(takes: Collection[str]) -> str:
    """Return the name of a model's cache: it is new since transformers 5.24, which warns about the old one.

    >>> _cache_of(["input_ids", "past_key_values"]), _cache_of(["input_ids", "cache"])
    ('past_key_values', 'cache')
    """
    return "cache" if "cache" in takes else "past_key_values"


def _position_ids(takes: Collection[str], mask: Tensor, count: int, numbered: bool = False) -> dict[str, Tensor]:
    """Return the position ids of the last words where prompts are padded; otherwise the model computes them."""
    if "position_ids" not in takes or (bool(mask.all()) and not numbered):
        return {}
    return {"position_ids": (mask.cumsum(1) - 1).clamp_min(0)[:, -count:]}


def _encoder_inputs(takes: Collection[str], encoded: tuple[Tensor, Tensor | None], sample: Rows) -> dict[str, Any]:
    from transformers.modeling_outputs import BaseModelOutput

    hidden, mask = encoded
    given: dict[str, Any] = {"encoder_outputs": BaseModelOutput(last_hidden_state=hidden[sample])}
    if "attention_mask" in takes:
        given["attention_mask"] = None if mask is None else mask[sample]
    return given


def _read_encoder(
    model: Any, inputs: dict[str, Any], settings: Any, rules: GenerationRules
) -> tuple[_CachedState, Tensor]:
    """Run an encoder and the decoder's prompt; return the state after ``decoder_input_ids``, and its last words."""
    encoder = model.get_encoder()
    taken = inspect.signature(encoder.forward).parameters
    prompt = inputs.pop("decoder_input_ids", None)
    kept = {name: value for name, value in inputs.items() if name in taken}
    if not kept or len(kept) < len(inputs):
        strange = [name for name in inputs if name not in taken] or ["nothing"]
        raise InputError(
            f"the encoder of {type(model).__name__} takes {', '.join(taken)} (and the decoder decoder_input_ids); got "
            f"{', '.join(strange)}."
        )
    hidden = encoder(**kept).last_hidden_state
    samples = torch.arange(len(hidden), device=hidden.device)
    if prompt is None:
        begin = token_ids(setting("decoder_start_token_id", settings, model.config))
        begin = begin or token_ids(setting("bos_token_id", settings, model.config))
        if not begin:
            raise InputError("the configuration has no start word of the decoder. Set decoder_start_token_id.")
        prompt = torch.full((len(hidden), 1), begin[0], device=hidden.device)
    if prompt.ndim != 2 or len(prompt) != len(hidden) or not prompt.shape[1] or prompt.is_floating_point():
        raise InputError(
            f"decoder_input_ids are whole numbers [batch, word] for {len(hidden)} samples, got {_describe(prompt)}."
        )
    encoded = hidden, inputs.get("attention_mask")
    takes = inspect.signature(model.forward).parameters
    given = {"decoder_input_ids": prompt, "use_cache": True, **_encoder_inputs(takes, encoded, samples)}
    logs, cache = _forward(model, given, _cache_of(takes))
    return _CachedState(cache, samples, rules.merge_ends(rules.first_word(logs)), encoded=encoded), prompt[:, -1]


def _read_prompt(
    model: Any, inputs: dict[str, Any], settings: Any, rules: GenerationRules
) -> tuple[_CachedState, Tensor]:
    """Run a decoder on its prompts; return the state after them, and their last words."""
    words = inputs.pop("input_ids", None)
    if words is None:
        raise InputError("a decoder without encoder needs prompts: input_ids [batch, word] of at least one word.")
    _check_prompts(model, words, alone=inputs.keys() <= {"attention_mask", "token_type_ids"})
    mask = inputs.pop("attention_mask", None)
    mask = torch.ones_like(words) if mask is None else mask.long()
    if mask.shape != words.shape:
        raise InputError(f"attention_mask must be of the prompts' shape {list(words.shape)}, got {list(mask.shape)}.")
    if not bool(mask[:, -1].bool().all()):
        raise InputError(
            "prompts of different lengths must be padded at the left: set tokenizer.padding_side = 'left'."
        )
    takes = inspect.signature(model.forward).parameters
    if any(name.endswith("_grid_thw") for name in inputs):
        raise ModelError(
            f"{type(model).__name__} has position ids of images in several directions, which are not supported. "
            "Decode it with its own generate."
        )
    numbered = hasattr(getattr(model, "model", None), "get_rope_index")  # it would number the words of the whole mask
    if strange := [name for name in inputs if name not in takes]:
        raise InputError(f"{type(model).__name__} takes no {', '.join(strange)}. It takes {', '.join(takes)}.")
    given = {
        "input_ids": words,
        "attention_mask": mask,
        "use_cache": True,
        **inputs,
        **_position_ids(takes, mask, words.shape[1], numbered),
    }
    logs, cache = _forward(model, given, _cache_of(takes))
    samples = torch.arange(len(words), device=words.device)
    kind = inputs.get("token_type_ids")
    kind = kind[:, -1] if kind is not None and not _has_images(inputs) else None
    numbered |= _cache_length(model, cache) > words.shape[1]
    return _CachedState(cache, samples, rules.merge_ends(rules.first_word(logs)), mask, numbered, kind), words[:, -1]


def _cache_length(model: Any, cache: Any) -> int:
    """Return the number of word and image tokens in the cache."""
    if not hasattr(cache, "get_seq_length"):
        return 0
    try:
        return int(cache.get_seq_length())
    except ValueError as error:
        raise ModelError(
            f"{type(model).__name__} keeps a state and no words (it is recurrent), so that its single steps can differ "
            f"from a pass over a whole sentence. Decode it with its own generate. ({error})"
        ) from error


def _has_images(inputs: Mapping[str, Any]) -> bool:
    """Return whether ``token_type_ids`` distinguish images from words; only words follow the prompt."""
    return "pixel_values" in inputs
