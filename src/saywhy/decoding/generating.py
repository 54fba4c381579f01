"""Any model of transformers that can ``generate``, as a step function: decoders here then decode it.

What was said before is kept as transformers keeps it (keys and values), and its rows are chosen with it. An encoder
runs once, and its output is read by the number of the sample.
"""

import inspect
from collections.abc import Collection, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from saywhy.decoding.step import LogProbabilities, Rows
from saywhy.errors import InputError, ModelError


@dataclass(frozen=True)
class Generation:
    """What decoders ask for: ``beam_search(g.step, g.state, g.start, end=g.end, forbidden=g.forbidden, longest=20)``.

    Attributes:
        step: one word further.
        state: behind the prompt but its last word.
        start: [batch] the last word of every prompt, or what a decoder begins with.
        end: the word that finishes a sentence.
        forbidden: words that are never said: the filling, where that is not the end.
    """

    step: "_Step"
    state: "_Said"
    start: Int[Tensor, " batch"]
    end: int
    forbidden: tuple[int, ...] = ()


@torch.no_grad()
def generation(model: Any, inputs: Mapping[str, Tensor], end: int | None = None) -> Generation:
    """A model of transformers with its inputs, ready to be decoded.

    Args:
        model: with ``generate``: encoder and decoder (BART, T5, vision encoder–decoders), or a decoder alone (GPT-2,
            Llama), in evaluation mode.
        inputs: what its processor or tokenizer gives: ``input_ids`` and ``attention_mask`` (a decoder's prompts of
            several lengths filled up at the left), ``pixel_values``, and so on.
        end: the word that finishes a sentence; None takes it from the model's configuration, of several the first.

    Raises:
        ModelError: it cannot generate, is in training mode, or keeps nothing of what was said.
        InputError: there are no inputs, a prompt is filled up at the right, or no end is known.

    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> gpt = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1, eos_token_id=8)).eval()
    >>> ready = generation(gpt, {"input_ids": torch.tensor([[1, 2, 3]])})
    >>> from saywhy.decoding import diverse_beam_search
    >>> some = diverse_beam_search(ready.step, ready.state, ready.start, end=ready.end, longest=5, width=4, groups=2)
    >>> some.found.words.shape
    torch.Size([1, 4, 5])
    """
    if not callable(getattr(model, "generate", None)) or not hasattr(model, "config"):
        raise ModelError(f"{type(model).__name__} is no model of transformers that generates.")
    if model.training:
        raise ModelError("the model is in training mode, in which dropout changes every word. Call model.eval().")
    if not inputs:
        raise InputError("there are no inputs. Give what the model's tokenizer or processor returns.")
    settings = getattr(model, "generation_config", model.config)
    end = _end(settings, model.config) if end is None else end
    filling = _first(_known("pad_token_id", settings, model.config))
    forbidden = () if filling is None or filling == end else (filling,)
    begin = _encoded if model.config.is_encoder_decoder else _prompted
    state, start = begin(model, dict(inputs), settings)
    return Generation(_Step(model), state, start, end, forbidden)


@dataclass(frozen=True)
class _Said:
    """What has been said, row by row.

    Attributes:
        cache: keys and values, as transformers keeps them; None before the first word.
        sample: [row] which sample each row is of.
        mask: [row, word] which words of prompt and sentence are there; None for an encoder's decoder.
        encoded: the encoder's output for every sample, and its mask.
        prompt: whether the cache is that of the prompts, from which other searches begin as well: transformers writes
            into caches, so a search takes a copy first.
    """

    cache: Any
    sample: Rows
    mask: Tensor | None = None
    encoded: tuple[Tensor, Tensor | None] | None = None
    prompt: bool = False

    def own(self) -> "_Said":
        """The same, with a cache that may be written into."""
        return replace(self, cache=deepcopy(self.cache), prompt=False) if self.prompt else self

    def reordered(self, rows: Rows) -> "_Said":
        """These rows, in this order."""
        own = self.own()
        if own.cache is not None:
            own.cache.reorder_cache(rows)
        mask = None if own.mask is None else own.mask[rows]
        return replace(own, sample=own.sample[rows], mask=mask)


class _Step:
    """One word further."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.takes: Collection[str] = inspect.signature(model.forward).parameters

    def __call__(self, words: Rows, state: _Said) -> tuple[LogProbabilities, _Said]:
        """Log-probabilities of the next words, and what has been said then."""
        state = state.own()
        given: dict[str, Any] = {"past_key_values": state.cache, "use_cache": True}
        if state.encoded is None:
            assert state.mask is not None
            mask = torch.cat([state.mask, state.mask.new_ones(len(words), 1)], 1)
            state = replace(state, mask=mask)
            given |= {"input_ids": words.unsqueeze(1), "attention_mask": mask}
            if "position_ids" in self.takes:
                given["position_ids"] = mask.sum(1, keepdim=True) - 1
        else:
            hidden, seen = state.encoded
            given |= {"decoder_input_ids": words.unsqueeze(1), "encoder_outputs": _Encoded(hidden[state.sample])}
            if "attention_mask" in self.takes:
                given["attention_mask"] = None if seen is None else seen[state.sample]
        out = self.model(**given)
        if getattr(out, "past_key_values", None) is None:
            raise ModelError(f"{type(self.model).__name__} keeps nothing of what was said (no past_key_values).")
        return out.logits[:, -1].float().log_softmax(-1), replace(state, cache=out.past_key_values)


class _Encoded(tuple[Tensor]):
    """An encoder's output as transformers takes it: by position and by name."""

    last_hidden_state: Tensor

    def __new__(cls, hidden: Tensor) -> "_Encoded":
        made = super().__new__(cls, (hidden,))
        made.last_hidden_state = hidden
        return made


def _encoded(model: Any, inputs: dict[str, Any], settings: Any) -> tuple[_Said, Tensor]:
    """Behind an encoder: its output, and what the decoder begins with."""
    encoder = model.get_encoder()
    taken = inspect.signature(encoder.forward).parameters
    kept = {name: value for name, value in inputs.items() if name in taken}
    if not kept:
        raise InputError(f"the encoder takes {', '.join(taken)}; none of these is among {', '.join(inputs)}.")
    hidden = encoder(**kept).last_hidden_state
    first = _first(_known("decoder_start_token_id", settings, model.config))
    first = _first(_known("bos_token_id", settings, model.config)) if first is None else first
    if first is None:
        raise InputError("the configuration does not say what the decoder begins with: set decoder_start_token_id.")
    samples = torch.arange(len(hidden), device=hidden.device)
    state = _Said(None, samples, encoded=(hidden, inputs.get("attention_mask")))
    return state, torch.full_like(samples, first)


def _prompted(model: Any, inputs: dict[str, Any], settings: Any) -> tuple[_Said, Tensor]:
    """Behind all words of the prompts but the last."""
    words = inputs.pop("input_ids", None)
    if words is None or words.ndim != 2 or not words.shape[1]:
        raise InputError("a decoder alone needs prompts: input_ids [batch, word] of at least one word.")
    mask = inputs.pop("attention_mask", None)
    mask = torch.ones_like(words) if mask is None else mask
    if not bool(mask[:, -1].bool().all()):
        raise InputError("prompts of several lengths are filled up at the left: tokenizer.padding_side = 'left'.")
    samples = torch.arange(len(words), device=words.device)
    before = mask[:, :-1]
    if words.shape[1] == 1:
        return _Said(None, samples, before), words[:, -1]
    takes = inspect.signature(model.forward).parameters
    given = {name: value for name, value in inputs.items() if name in takes}
    if "position_ids" in takes:
        given["position_ids"] = (before.cumsum(1) - 1).clamp_min(0)
    out = model(input_ids=words[:, :-1], attention_mask=before, use_cache=True, **given)
    if getattr(out, "past_key_values", None) is None:
        raise ModelError(f"{type(model).__name__} keeps nothing of what was said (no past_key_values).")
    return _Said(out.past_key_values, samples, before, prompt=True), words[:, -1]


def _known(name: str, *configurations: Any) -> Any:
    """A setting of the first configuration that has it."""
    parts = [part for c in configurations for part in (c, getattr(c, "decoder", None))]
    return next((found for part in parts if (found := getattr(part, name, None)) is not None), None)


def _first(value: Any) -> int | None:
    return value[0] if isinstance(value, list | tuple) and value else value


def _end(*configurations: Any) -> int:
    end = _first(_known("eos_token_id", *configurations))
    if end is None:
        raise InputError("the configuration does not say which word ends a sentence (eos_token_id). Give end=.")
    return int(end)
