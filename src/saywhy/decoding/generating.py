"""Models of transformers that ``generate`` with a cache, as step functions: decoders here then decode them.

The prompt is read whole, as ``generate`` reads it. What was said before is kept as transformers keeps it (keys and
values), and its rows are chosen with it. An encoder runs once, and its output is read by the number of the sample.
"""

import inspect
import warnings
from collections.abc import Collection, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from saywhy.decoding.step import LogProbabilities, Rows, State, Step
from saywhy.errors import InputError, MethodError, ModelError, SaywhyWarning
from saywhy.shapes import at_least_float32
from saywhy.validation import whole_number


@dataclass(frozen=True)
class Generation:
    """What decoders ask for: ``beam_search(g.step, g.state, g.start, end=g.end, max_length=20)``.

    Attributes:
        step: one word further.
        state: behind the prompt.
        start: [batch] the last word of every prompt, or what a decoder begins with.
        end: the word that finishes a sentence; of several it stands for all.
        suppress_tokens: words that are never said: the filling, where that is not the end, and those that the
            configuration suppresses.
    """

    step: Step
    state: State
    start: Int[Tensor, " batch"]
    end: int
    suppress_tokens: tuple[int, ...] = ()


@torch.no_grad()
def generation(model: Any, inputs: Mapping[str, Tensor], end: int | None = None) -> Generation:
    """A model of transformers with its inputs, ready to be decoded.

    Of the configuration are followed: the ends, the filling, ``suppress_tokens``, ``begin_suppress_tokens``,
    ``forced_bos_token_id`` and single ``bad_words_ids``; of the rest that changes what is said (such as
    ``repetition_penalty``) a warning says that it is not. Not of the search itself (``num_beams``,
    ``length_penalty``, ``early_stopping``), whose settings are those of the decoder here; and a sentence that is as
    long as it may be is cut off and says so, where ``forced_eos_token_id`` would put an end in the place of its last
    word. Where there are several ends, the likeliest of them counts, and the first stands for it.

    Args:
        model: with ``generate`` and a cache: encoder and decoder (BART, T5, Whisper, vision encoder–decoders), or a
            decoder alone (GPT-2, Llama, LLaVA), in evaluation mode.
        inputs: what its processor or tokenizer gives: ``input_ids`` and ``attention_mask`` (a decoder's prompts of
            several lengths filled up at the left), ``pixel_values``, ``decoder_input_ids``, and so on.
        end: the word that finishes a sentence; None takes it, or them, from the model's configuration.

    Raises:
        ModelError: it cannot generate, is in training mode, hands out nothing of what was said (RWKV; BLIP, which keeps
            it inside), keeps a state alone (Mamba), or numbers the places of images in several directions (Qwen2-VL).
        InputError: there are no inputs, one of them is none of the model's, a prompt is filled up at the right or has
            words that the model does not know, or no end is known.

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
        raise ModelError(f"{type(model).__name__} is no model of transformers that generates.")
    if model.training:
        raise ModelError("the model is in training mode, in which dropout changes every word. Call model.eval().")
    if not isinstance(inputs, Mapping) or not inputs:
        got = "none" if isinstance(inputs, Mapping) else type(inputs).__name__
        raise InputError(f"inputs are what the model's tokenizer or processor returns, tensors by name; got {got}.")
    for name, value in inputs.items():
        if value is not None and not isinstance(value, Tensor):
            raise InputError(f"inputs are tensors, '{name}' is {type(value).__name__}: return_tensors='pt' gives them.")
    settings = getattr(model, "generation_config", model.config)
    asked = _Asked.of(settings, model.config, end)
    given = {name: value for name, value in inputs.items() if value is not None}
    if taken := [name for name in given if name in _COUNTED]:
        raise InputError(f"{', '.join(taken)} are counted here from what has been said. Leave them out.")
    begin = _encoded if model.config.is_encoder_decoder else _prompted
    state, start = begin(model, given, settings, asked)
    assert state.first is not None
    suppress_tokens = tuple(
        word for word in asked.suppress_tokens if 0 <= word < state.first.shape[1]
    )  # others cannot be said
    return Generation(_Step(model, asked), state, start, asked.ends[0], suppress_tokens)


_COUNTED = ("position_ids", "cache_position", "past_key_values", "cache")
"""Inputs that go on from step to step."""

UNFOLLOWED = {
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "min_length": 0,
    "min_new_tokens": None,
    "forced_decoder_ids": None,
    "sequence_bias": None,
    "exponential_decay_length_penalty": None,
    "guidance_scale": 1.0,
    "stop_strings": None,
}
"""Settings of ``generate`` that change what is said, with the value that changes nothing."""


@dataclass(frozen=True)
class _Asked:
    """What a configuration asks for.

    Attributes:
        ends: the words that finish a sentence; the first stands for all.
        suppress_tokens: words that are never said.
        first: words of which the first is one; empty is any.
        not_first: words that the first is not.
    """

    ends: tuple[int, ...]
    suppress_tokens: tuple[int, ...]
    first: tuple[int, ...]
    not_first: tuple[int, ...]

    @staticmethod
    def of(settings: Any, config: Any, end: int | None) -> "_Asked":
        """Of the generation's configuration, and the model's."""
        ends = (
            _words(_known("eos_token_id", settings, config))
            if end is None
            else (whole_number("end", end, error=MethodError),)
        )
        if not ends:
            raise InputError("the configuration does not say which word ends a sentence (eos_token_id). Give end=.")
        bad = [tuple(words) for words in getattr(settings, "bad_words_ids", None) or []]
        never = [*_words(_known("pad_token_id", settings, config)), *_words(getattr(settings, "suppress_tokens", None))]
        never += [words[0] for words in bad if len(words) == 1]
        ignored = [name for name, usual in UNFOLLOWED.items() if getattr(settings, name, usual) not in (usual, None)]
        ignored += ["bad_words_ids"] if any(len(words) > 1 for words in bad) else []
        if ignored:
            warnings.warn(
                f"the configuration asks for {', '.join(ignored)}, which decoders here do not follow.",
                SaywhyWarning,
                stacklevel=4,
            )
        first = _words(_known("forced_bos_token_id", settings, config))
        not_first = _words(getattr(settings, "begin_suppress_tokens", None))
        return _Asked(ends, tuple(dict.fromkeys(n for n in never if n not in ends)), first, not_first)

    def known(self, logs: LogProbabilities) -> None:
        """See that the model has the words that end or begin a sentence, or may not begin it."""
        words = (*self.ends, *self.first, *self.not_first)
        least, most = min(words), max(words)
        if not 0 <= least <= most < logs.shape[1]:
            strange = most if least >= 0 else least
            raise InputError(
                f"the model says words from 0 to {logs.shape[1] - 1}; its configuration, or end=, names word {strange} "
                "among those that end a sentence, begin it or may not begin it."
            )

    def at_first(self, logs: LogProbabilities) -> LogProbabilities:
        """Log-probabilities of the first word, minus infinity where it may not be."""
        self.known(logs)
        if self.first:
            only = torch.full_like(logs, -torch.inf)
            only[:, list(self.first)] = 0.0
            return only
        return logs.index_fill(1, torch.tensor(self.not_first, dtype=torch.long, device=logs.device), -torch.inf)

    def of_ends(self, logs: LogProbabilities) -> LogProbabilities:
        """With the likeliest end at the place of the first of them, and the others never said."""
        if len(self.ends) == 1:
            return logs
        ends = torch.tensor(self.ends, device=logs.device)
        best = logs[:, ends].amax(1)
        logs = logs.index_fill(1, ends, -torch.inf)
        logs[:, self.ends[0]] = best
        return logs


@dataclass(frozen=True)
class _Said:
    """What has been said, row by row.

    Attributes:
        cache: keys and values, as transformers keeps them.
        sample: [row] which sample each row is of.
        first: [row, word] log-probabilities of the word behind the prompt; None when that has been said.
        mask: [row, word] which words of prompt and sentence are there; None for an encoder's decoder.
        numbered: whether the model has to be told the numbers of words, because images are in its cache as well.
        kind: [row] the kind (``token_type_ids``) of the prompt's last word; None where prompts have none.
        encoded: the encoder's output for every sample, and its mask.
        prompt: whether the cache is that of the prompts, from which other searches begin as well: transformers writes
            into caches, so a search takes a copy first.
    """

    cache: Any
    sample: Rows
    first: LogProbabilities | None
    mask: Tensor | None = None
    numbered: bool = False
    kind: Tensor | None = None
    encoded: tuple[Tensor, Tensor | None] | None = None
    prompt: bool = True

    def own(self) -> "_Said":
        """The same, with a cache that may be written into."""
        return replace(self, cache=deepcopy(self.cache), prompt=False) if self.prompt else self

    def reordered(self, rows: Rows) -> "_Said":
        """These rows, in this order."""
        own = self.own()
        own.cache.reorder_cache(rows)
        first, mask, kind = (None if part is None else part[rows] for part in (own.first, own.mask, own.kind))
        return replace(own, sample=own.sample[rows], first=first, mask=mask, kind=kind)


class _Step:
    """One word further."""

    def __init__(self, model: Any, asked: _Asked) -> None:
        self.model, self.asked = model, asked
        self.takes: Collection[str] = inspect.signature(model.forward).parameters
        self.cache = _cache_of(self.takes)

    def __call__(self, words: Rows, state: _Said) -> tuple[LogProbabilities, _Said]:
        """Log-probabilities of the next words, and what has been said then."""
        if state.first is not None:  # the prompt was read with its last word
            return state.first, replace(state, first=None)
        state = state.own()
        given: dict[str, Any] = {self.cache: state.cache, "use_cache": True}
        if state.encoded is None:
            assert state.mask is not None
            mask = torch.cat([state.mask, state.mask.new_ones(len(words), 1)], 1)
            state = replace(state, mask=mask)
            given |= {"input_ids": words.unsqueeze(1), "attention_mask": mask} | _places(
                self.takes, mask, 1, state.numbered
            )
            if state.kind is not None:
                given["token_type_ids"] = state.kind.unsqueeze(1)
        else:
            given |= {
                "decoder_input_ids": words.unsqueeze(1),
                **_heard(self.takes, state.encoded, state.sample),
            }
        logs, cache = _said(self.model, given, self.cache)
        return self.asked.of_ends(logs), replace(state, cache=cache)


def _said(model: Any, given: Mapping[str, Any], name: str) -> tuple[LogProbabilities, Any]:
    """Log-probabilities behind the last word, and the cache, which has that name."""
    try:
        out = model(**given)
    except IndexError as error:
        most = getattr(model.config, "max_position_embeddings", "so many")
        raise InputError(
            f"{type(model).__name__} does not take another word: prompt and sentence together have at most {most} "
            f"words, all of its vocabulary. Take a smaller longest=, or a shorter prompt. ({error})"
        ) from error
    cache = getattr(out, name, None)
    if cache is None:
        raise ModelError(
            f"{type(model).__name__} hands out nothing of what was said (no {name}), from which the next word would "
            "go on. Decode it with its own generate, or a part of it that does hand it out, such as its decoder."
        )
    return at_least_float32(out.logits[:, -1]).log_softmax(-1), cache


def _check_prompts(model: Any, words: Tensor, *, alone: bool) -> None:
    """See that they are [batch, word], and words of the model's where nothing else (such as an image) is put there."""
    if words.ndim != 2 or not words.numel() or words.is_floating_point() or words.dtype is torch.bool:
        raise InputError(f"input_ids are whole numbers [batch, word], at least one word each, got {_told(words)}.")
    if not alone:
        return
    embedded = model.get_input_embeddings() if hasattr(model, "get_input_embeddings") else None
    known = getattr(embedded, "num_embeddings", None)
    least, most = int(words.min()), int(words.max())
    if known is not None and not 0 <= least <= most < known:
        strange = most if least >= 0 else least
        raise InputError(f"{type(model).__name__} reads words from 0 to {known - 1}, and input_ids have {strange}.")


def _told(tensor: Tensor) -> str:
    return f"{tensor.dtype} {list(tensor.shape)}"


def _cache_of(takes: Collection[str]) -> str:
    """What a model calls its cache: since transformers 5.24 by a new name, and the old one is warned of.

    >>> _cache_of(["input_ids", "past_key_values"]), _cache_of(["input_ids", "cache"])
    ('past_key_values', 'cache')
    """
    return "cache" if "cache" in takes else "past_key_values"


def _places(takes: Collection[str], mask: Tensor, count: int, numbered: bool = False) -> dict[str, Tensor]:
    """Numbers of the last words, where prompts are filled up; elsewhere the model itself knows best."""
    if "position_ids" not in takes or (bool(mask.all()) and not numbered):
        return {}
    return {"position_ids": (mask.cumsum(1) - 1).clamp_min(0)[:, -count:]}


def _heard(takes: Collection[str], encoded: tuple[Tensor, Tensor | None], sample: Rows) -> dict[str, Any]:
    from transformers.modeling_outputs import BaseModelOutput

    hidden, seen = encoded
    given: dict[str, Any] = {"encoder_outputs": BaseModelOutput(last_hidden_state=hidden[sample])}
    if "attention_mask" in takes:
        given["attention_mask"] = None if seen is None else seen[sample]
    return given


def _encoded(model: Any, inputs: dict[str, Any], settings: Any, asked: _Asked) -> tuple[_Said, Tensor]:
    """Behind an encoder: its output, and what the decoder has said of ``decoder_input_ids``."""
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
        begin = _words(_known("decoder_start_token_id", settings, model.config))
        begin = begin or _words(_known("bos_token_id", settings, model.config))
        if not begin:
            raise InputError("the configuration does not say what the decoder begins with: set decoder_start_token_id.")
        prompt = torch.full((len(hidden), 1), begin[0], device=hidden.device)
    if prompt.ndim != 2 or len(prompt) != len(hidden) or not prompt.shape[1] or prompt.is_floating_point():
        raise InputError(
            f"decoder_input_ids are whole numbers [batch, word] for {len(hidden)} samples, got {_told(prompt)}."
        )
    encoded = hidden, inputs.get("attention_mask")
    takes = inspect.signature(model.forward).parameters
    given = {"decoder_input_ids": prompt, "use_cache": True, **_heard(takes, encoded, samples)}
    logs, cache = _said(model, given, _cache_of(takes))
    return _Said(cache, samples, asked.of_ends(asked.at_first(logs)), encoded=encoded), prompt[:, -1]


def _prompted(model: Any, inputs: dict[str, Any], settings: Any, asked: _Asked) -> tuple[_Said, Tensor]:
    """Behind prompts."""
    words = inputs.pop("input_ids", None)
    if words is None:
        raise InputError("a decoder alone needs prompts: input_ids [batch, word] of at least one word.")
    _check_prompts(model, words, alone=inputs.keys() <= {"attention_mask", "token_type_ids"})
    mask = inputs.pop("attention_mask", None)
    mask = torch.ones_like(words) if mask is None else mask.long()
    if mask.shape != words.shape:
        raise InputError(f"attention_mask is of the prompts' shape {list(words.shape)}, got {list(mask.shape)}.")
    if not bool(mask[:, -1].bool().all()):
        raise InputError("prompts of several lengths are filled up at the left: tokenizer.padding_side = 'left'.")
    takes = inspect.signature(model.forward).parameters
    if any(name.endswith("_grid_thw") for name in inputs):
        raise ModelError(
            f"{type(model).__name__} numbers the places of images in several directions, which is not followed here: "
            "decode it with its own generate."
        )
    numbered = hasattr(getattr(model, "model", None), "get_rope_index")  # else it numbers the words of the whole mask
    if strange := [name for name in inputs if name not in takes]:
        raise InputError(f"{type(model).__name__} takes no {', '.join(strange)}. It takes {', '.join(takes)}.")
    given = {
        "input_ids": words,
        "attention_mask": mask,
        "use_cache": True,
        **inputs,
        **_places(takes, mask, words.shape[1], numbered),
    }
    logs, cache = _said(model, given, _cache_of(takes))
    samples = torch.arange(len(words), device=words.device)
    kind = inputs.get("token_type_ids")
    kind = kind[:, -1] if kind is not None and not _sees_images(inputs) else None
    numbered |= _kept_length(model, cache) > words.shape[1]
    return _Said(cache, samples, asked.of_ends(asked.at_first(logs)), mask, numbered, kind), words[:, -1]


def _kept_length(model: Any, cache: Any) -> int:
    """How many words and pieces of images are kept."""
    if not hasattr(cache, "get_seq_length"):
        return 0
    try:
        return int(cache.get_seq_length())
    except ValueError as error:
        raise ModelError(
            f"{type(model).__name__} keeps a state and no words, and what its steps give is not always what it gives "
            f"of whole sentences: decode it with its own generate. ({error})"
        ) from error


def _sees_images(inputs: Mapping[str, Any]) -> bool:
    """Whether kinds tell images from words, of which there are only words behind the prompt."""
    return "pixel_values" in inputs


def _known(name: str, *configurations: Any) -> Any:
    """A setting of the first configuration that has it."""
    parts = [part for c in configurations for part in (c, getattr(c, "decoder", None))]
    return next((found for part in parts if (found := getattr(part, name, None)) is not None), None)


def _words(value: Any) -> tuple[int, ...]:
    """One word, or several, or none."""
    if value is None:
        return ()
    return tuple(int(n) for n in value) if isinstance(value, list | tuple) else (int(value),)
