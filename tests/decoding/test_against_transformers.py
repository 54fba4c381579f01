"""What transformers' ``generate`` finds on a small random network, wherever it means the same.

Where it does not:

- Its default ``early_stopping=False`` stops by a heuristic (scoring open hypotheses as if they ended), which with a
  positive length penalty can miss the best hypothesis. Ours stops when it is proved, as its ``"never"`` is meant to,
  or with ``early_stopping=True`` when enough are finished, as its ``True``.
- Where a first step has fewer words than ``num_beams``, it fills the places with hypotheses of -1e9; ours are empty.
- Its top-k keeps all words as likely as the last one that is kept; ours keeps the requested number.
- Its ``sequences_scores`` are float32; equals are in no stated order.
"""

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor

from saywhy.decoding import beam_search, greedy
from saywhy.decoding.sampling import _filter

transformers = pytest.importorskip("transformers", reason="needs the package transformers")

WORDS, END, PAD, MAX_LENGTH = 13, 12, 0, 7

TAKES = inspect.signature(transformers.GPT2LMHeadModel.forward).parameters
CACHE = "cache" if "cache" in TAKES else "past_key_values"
"""What it is called: since transformers 5.24 by a new name."""


@pytest.fixture(scope="module")
def gpt() -> Any:
    """Of a few thousand random weights, with which sentences of many lengths are found."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        config = transformers.GPT2Config(
            vocab_size=WORDS,
            n_positions=32,
            n_embd=16,
            n_layer=2,
            n_head=2,
            initializer_range=0.25,
            bos_token_id=None,
            eos_token_id=END,
            pad_token_id=PAD,
            tie_word_embeddings=False,
        )
        return transformers.GPT2LMHeadModel(config).eval()


PROMPTS = torch.tensor([[5, 3, 7], [2, 2, 9], [11, 4, 1], [6, 8, 10], [1, 2, 3], [9, 9, 9]])


class Cached:
    """Keys and values of the previous words, as transformers keeps them."""

    def __init__(self, cache: Any) -> None:
        self.cache = cache

    def reordered(self, rows: Tensor) -> "Cached":
        self.cache.reorder_cache(rows)
        return self


def by_cache(gpt: Any) -> tuple[Any, Any]:
    """A step that reads one word at a time, and the state behind all of the prompts but their last word."""

    def step(words: Tensor, state: Cached) -> tuple[Tensor, Cached]:
        out = gpt(words.unsqueeze(1), use_cache=True, **{CACHE: state.cache})
        return out.logits[:, -1].float().log_softmax(-1), Cached(out[CACHE])

    with torch.no_grad():
        return step, Cached(gpt(PROMPTS[:, :-1], use_cache=True)[CACHE])


def anew(gpt: Any) -> tuple[Any, Any]:
    """A step that reads everything again."""

    def step(words: Tensor, said: Tensor) -> tuple[Tensor, Tensor]:
        said = torch.cat([said, words.unsqueeze(1)], 1)
        return gpt(said, use_cache=False).logits[:, -1].float().log_softmax(-1), said

    return step, PROMPTS[:, :-1]


def generated(gpt: Any, **options: Any) -> Any:
    return gpt.generate(
        PROMPTS,
        attention_mask=torch.ones_like(PROMPTS),
        max_new_tokens=MAX_LENGTH,
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
        **options,
    )


def said(sequences: Tensor) -> list[list[int]]:
    """Behind the prompt, up to the end."""
    found = []
    for row in sequences[:, PROMPTS.shape[1] :].tolist():
        found.append(row[: row.index(END) + 1] if END in row else row[:MAX_LENGTH])
    return found


def ours(found: Any) -> list[list[int]]:
    flat, lengths = found.words.flatten(0, 1).tolist(), found.lengths.flatten().tolist()
    return [row[:length] for row, length in zip(flat, lengths, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("num_beams", [2, 3, 5])
@pytest.mark.parametrize("penalty", [-1.0, 0.0, 0.7, 1.0, 2.0])
@pytest.mark.parametrize("early", [True, "never"])
def test_beam_search_equals_transformers(gpt, num_beams, penalty, early):
    theirs = generated(
        gpt, num_beams=num_beams, num_return_sequences=num_beams, length_penalty=penalty, early_stopping=early
    )
    step, state = by_cache(gpt)
    options: dict[str, Any] = {"num_beams": num_beams, "length_penalty": penalty, "early_stopping": early is True}
    found = beam_search(step, state, PROMPTS[:, -1], end=END, max_length=MAX_LENGTH, **options)
    assert ours(found) == said(theirs.sequences)
    torch.testing.assert_close(found.scores.flatten(), theirs.sequences_scores, rtol=1e-4, atol=1e-4)


def test_test_network_gives_sentences_of_many_lengths(gpt):
    step, state = by_cache(gpt)
    found = beam_search(step, state, PROMPTS[:, -1], end=END, max_length=MAX_LENGTH)
    assert set(found.lengths.flatten().tolist()) > {1, 4, 5, 6, 7}
    assert 10 < int(found.finished.sum()) < 30
    assert len({tuple(words) for words in ours(found)}) > 20


def test_beam_search_with_length_and_token_limits_equals_transformers(gpt):
    theirs = generated(gpt, num_beams=4, num_return_sequences=4, length_penalty=0.0, early_stopping="never",
                       suppress_tokens=[PAD, 3], min_new_tokens=4)  # fmt: skip
    step, state = by_cache(gpt)
    found = beam_search(
        step, state, PROMPTS[:, -1], end=END, max_length=MAX_LENGTH, num_beams=4, min_length=5, suppress_tokens=(PAD, 3)
    )
    assert ours(found) == said(theirs.sequences)
    torch.testing.assert_close(found.scores.flatten(), theirs.sequences_scores, rtol=1e-4, atol=1e-4)


def test_transformers_early_stopping_heuristic_never_scores_higher(gpt):
    for penalty in (0.7, 1.0, 2.0):
        theirs = generated(gpt, num_beams=3, length_penalty=penalty, early_stopping=False)
        step, state = by_cache(gpt)
        found = beam_search(
            step, state, PROMPTS[:, -1], end=END, max_length=MAX_LENGTH, num_beams=3, count=1, length_penalty=penalty
        )
        assert bool((found.scores[:, 0] >= theirs.sequences_scores - 1e-4).all())


def test_greedy_equals_transformers(gpt):
    theirs = generated(gpt, num_beams=1)
    step, state = by_cache(gpt)
    assert ours(greedy(step, state, PROMPTS[:, -1], end=END, max_length=MAX_LENGTH)) == said(theirs.sequences)


def test_cached_step_equals_full_recomputation(gpt):
    (step, state), (slow_step, slow_state) = by_cache(gpt), anew(gpt)
    options: dict[str, Any] = {"end": END, "max_length": MAX_LENGTH, "num_beams": 4, "length_penalty": 0.7}
    kept = beam_search(step, state, PROMPTS[:, -1], **options)
    read = beam_search(slow_step, slow_state, PROMPTS[:, -1], **options)
    assert ours(kept) == ours(read)
    torch.testing.assert_close(kept.scores, read.scores, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("top_k", "top_p"), [(3, None), (None, 0.5), (None, 0.9), (5, 0.7), (1, 0.1)])
def test_top_k_and_top_p_filter_equals_transformers(top_k, top_p):
    logs = torch.randn(40, WORDS, generator=torch.Generator().manual_seed(0), dtype=torch.float64).log_softmax(-1)
    theirs = logs
    if top_k is not None:
        theirs = transformers.TopKLogitsWarper(top_k)(None, theirs)
    if top_p is not None:
        theirs = transformers.TopPLogitsWarper(top_p)(None, theirs)
    torch.testing.assert_close(_filter(logs, top_k, top_p), theirs)
