"""A made-up language pair with known synonyms, and a small encoder-decoder of transformers that learns it.

A source sentence is adjective, noun, verb, adjective, noun. Every word has several translations, each as likely as the
others; in the target a noun stands before its adjective. So all translations of a sentence and their probabilities are
known.
"""

from dataclasses import dataclass
from itertools import product

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn import functional as F

PAD, START, END = 0, 1, 2

SOURCE = {"adjective": ("ka", "ki", "ko", "ku"), "noun": ("mal", "mel", "mil", "mol"), "verb": ("sat", "set", "sit")}
"""The words of the source language."""

SYNONYMS = {"adjective": 2, "noun": 3, "verb": 2}
"""The number of translations of a word of each part of speech."""

FORM = ("adjective", "noun", "verb", "adjective", "noun")

TARGET_ORDER = (1, 0, 2, 4, 3)
"""The places in the source of the words of a translation."""

WORDS = tuple(word for words in SOURCE.values() for word in words)
TRANSLATIONS = {
    word: tuple(f"{word}{'abc'[number]}" for number in range(SYNONYMS[part]))
    for part, words in SOURCE.items()
    for word in words
}
VOCABULARY = ("<pad>", "<s>", "</s>", *WORDS, *(text for texts in TRANSLATIONS.values() for text in texts))
NUMBERS = {word: number for number, word in enumerate(VOCABULARY)}


def sentences() -> list[tuple[str, ...]]:
    """Return all source sentences.

    >>> len(sentences()), sentences()[0]
    (768, ('ka', 'mal', 'sat', 'ka', 'mal'))
    """
    return list(product(*(SOURCE[part] for part in FORM)))


def translations(sentence: tuple[str, ...]) -> set[str]:
    """Return all translations of a sentence; each is as likely as the others.

    >>> len(translations(("ka", "mal", "sat", "ki", "mel")))
    72
    """
    return {" ".join(words) for words in product(*(TRANSLATIONS[sentence[place]] for place in TARGET_ORDER))}


def covered(sentence: tuple[str, ...], texts: list[str]) -> float:
    """Return the share of the synonyms, of all words of a sentence, that its right translations use.

    >>> covered(("ka", "mal", "sat", "ka", "mal"), ["mala kaa sata malb kaa", "what"])  # 5 of 12
    0.4166666666666667
    """
    right = [text.split() for text in texts if text in translations(sentence)]
    every = [(place, word) for place, at in enumerate(TARGET_ORDER) for word in TRANSLATIONS[sentence[at]]]
    return sum(any(words[place] == word for words in right) for place, word in every) / len(every)


def encode(some: list[tuple[str, ...]]) -> Int[Tensor, "sentence word"]:
    """Return source sentences as word numbers."""
    return torch.tensor([[*(NUMBERS[word] for word in sentence), END] for sentence in some])


def decode_words(numbers: list[int]) -> str:
    """Return the text of a translation."""
    return " ".join(VOCABULARY[number] for number in numbers if number != END)


def draw(sentence: tuple[str, ...], generator: torch.Generator) -> list[str]:
    """Draw one of the translations of a sentence."""
    choices = [TRANSLATIONS[sentence[place]] for place in TARGET_ORDER]
    return [of_word[int(torch.randint(len(of_word), (), generator=generator))] for of_word in choices]


@dataclass(frozen=True)
class Translator:
    """A trained model.

    Attributes:
        model: an encoder-decoder of transformers, in evaluation mode.
        held_out: source sentences that it has not seen.
        cross_entropy: the mean loss of a translation in the last tenth of the training, in nats; that of the language
            itself is the logarithm of 72, 4.28.
    """

    model: nn.Module
    held_out: list[tuple[str, ...]]
    cross_entropy: float


def fresh_translator(seed: int) -> nn.Module:
    """Return a small BART with random weights."""
    from transformers import BartConfig, BartForConditionalGeneration

    config = BartConfig(
        vocab_size=len(VOCABULARY), d_model=48, encoder_layers=1, decoder_layers=1, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=96, decoder_ffn_dim=96, max_position_embeddings=16, dropout=0.0,
        attention_dropout=0.0, pad_token_id=PAD, bos_token_id=START, eos_token_id=END, decoder_start_token_id=START,
        forced_eos_token_id=None,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BartForConditionalGeneration(config).eval()


def train_translator(seed: int, steps: int = 600, batch: int = 64) -> Translator:
    """Train a translator on nine tenths of the sentences, each step with newly drawn translations."""
    generator = torch.Generator().manual_seed(seed)
    every = sentences()
    order = torch.randperm(len(every), generator=generator).tolist()
    held_out, known = ([every[i] for i in part] for part in (order[: len(order) // 10], order[len(order) // 10 :]))
    model = fresh_translator(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    losses = []
    for _ in range(steps):
        some = [known[i] for i in torch.randint(len(known), (batch,), generator=generator).tolist()]
        targets = torch.tensor([[*(NUMBERS[word] for word in draw(one, generator)), END] for one in some])
        begun = torch.cat([torch.full((batch, 1), START), targets[:, :-1]], 1)
        logits = model(input_ids=encode(some), decoder_input_ids=begun).logits
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()) * targets.shape[1])
    last = losses[-max(1, steps // 10) :]
    return Translator(model.eval(), held_out, sum(last) / len(last))
