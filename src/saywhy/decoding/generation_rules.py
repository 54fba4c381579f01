"""The settings of ``generate`` in the configuration of a transformers model, as rules for the words of a sentence."""

import warnings
from dataclasses import dataclass
from typing import Any

import torch

from saywhy.decoding.step import LogProbabilities
from saywhy.errors import InputError, MethodError, SaywhyWarning
from saywhy.validation import whole_number

UNSUPPORTED_SETTINGS = {
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
"""Settings of ``generate`` that change the generated text and are not supported, with their neutral values."""


@dataclass(frozen=True)
class GenerationRules:
    """The supported generation settings of a configuration.

    Attributes:
        ends: the words that finish a sentence; the first represents all.
        suppress_tokens: words that are never generated.
        first: the allowed first words; empty allows any.
        not_first: words that are suppressed as the first word.
    """

    ends: tuple[int, ...]
    suppress_tokens: tuple[int, ...]
    first: tuple[int, ...]
    not_first: tuple[int, ...]

    @staticmethod
    def of(settings: Any, config: Any, end: int | None) -> "GenerationRules":
        """Read the settings of the generation configuration, then of the model's configuration."""
        ends = (
            token_ids(setting("eos_token_id", settings, config))
            if end is None
            else (whole_number("end", end, error=MethodError),)
        )
        if not ends:
            raise InputError("the configuration has no end word (eos_token_id). Give end=.")
        bad = [tuple(words) for words in getattr(settings, "bad_words_ids", None) or []]
        never = [
            *token_ids(setting("pad_token_id", settings, config)),
            *token_ids(getattr(settings, "suppress_tokens", None)),
        ]
        never += [words[0] for words in bad if len(words) == 1]
        ignored = [
            name for name, usual in UNSUPPORTED_SETTINGS.items() if getattr(settings, name, usual) not in (usual, None)
        ]
        ignored += ["bad_words_ids"] if any(len(words) > 1 for words in bad) else []
        if ignored:
            warnings.warn(
                f"the configuration sets {', '.join(ignored)}, which the decoders of saywhy do not support.",
                SaywhyWarning,
                stacklevel=4,
            )
        first = token_ids(setting("forced_bos_token_id", settings, config))
        not_first = token_ids(getattr(settings, "begin_suppress_tokens", None))
        return GenerationRules(ends, tuple(dict.fromkeys(n for n in never if n not in ends)), first, not_first)

    def check_vocabulary(self, logs: LogProbabilities) -> None:
        """Check that the end words and the allowed and suppressed first words are in the model's vocabulary."""
        words = (*self.ends, *self.first, *self.not_first)
        least, most = min(words), max(words)
        if not 0 <= least <= most < logs.shape[1]:
            strange = most if least >= 0 else least
            raise InputError(
                f"the model has words from 0 to {logs.shape[1] - 1}; its configuration, or end=, names word {strange} "
                "as an end word, or as an allowed or suppressed first word. Correct the configuration or end=."
            )

    def first_word(self, logs: LogProbabilities) -> LogProbabilities:
        """Return the log-probabilities of the first word, minus infinity where it is not allowed."""
        self.check_vocabulary(logs)
        if self.first:
            only = torch.full_like(logs, -torch.inf)
            only[:, list(self.first)] = 0.0
            return only
        return logs.index_fill(1, torch.tensor(self.not_first, dtype=torch.long, device=logs.device), -torch.inf)

    def merge_ends(self, logs: LogProbabilities) -> LogProbabilities:
        """Return log-probabilities with the likeliest end in place of the first end, and the other ends suppressed."""
        if len(self.ends) == 1:
            return logs
        ends = torch.tensor(self.ends, device=logs.device)
        best = logs[:, ends].amax(1)
        logs = logs.index_fill(1, ends, -torch.inf)
        logs[:, self.ends[0]] = best
        return logs


def setting(name: str, *configurations: Any) -> Any:
    """Return a setting of the first configuration that has it."""
    parts = [part for c in configurations for part in (c, getattr(c, "decoder", None))]
    return next((found for part in parts if (found := getattr(part, name, None)) is not None), None)


def token_ids(value: Any) -> tuple[int, ...]:
    """Return one token id, several or none as a tuple."""
    if value is None:
        return ()
    return tuple(int(n) for n in value) if isinstance(value, list | tuple) else (int(value),)
