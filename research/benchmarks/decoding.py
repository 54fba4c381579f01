"""Cost of diverse beam search against beam search with the same number of beams on the same network.

    python -m research.benchmarks.decoding
    python -m research.benchmarks.decoding --out docs/benchmarks-decoding.md

Measured as in ``research.benchmarks.cost``, alternating. Both generate exactly 20 words, so that they take the same
number of steps.
"""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import torch
import typer
from torch import nn

import saywhy
from research.benchmarks.cost import CONSOLE, Row, formatted, machine, peak_memory, ratios, report, reset_peak_memory
from research.options import Out, Repeats
from saywhy.decoding import beam_search, diverse_beam_search
from saywhy.decoding.penalties import Penalty, hamming, ngram
from saywhy.decoding.transformers_generation import generation
from saywhy.tasks.generation.networks import CaptionModel, ShowAndTell, TopDown

NUM_BEAMS, LENGTH, WORDS = 6, 20, 10_000
GOAL = "at most 1.2"


@dataclass(frozen=True)
class DecodingTask:
    """The inputs of a decoder: step function, initial state, start tokens and end token of a network."""

    step: Any
    state: Any
    start: torch.Tensor
    end: int

    def beams(self) -> None:
        """Run beam search."""
        self._run(partial(beam_search, refill=False))

    def diverse(self, groups: int, penalty: Penalty = hamming) -> None:
        """Run diverse beam search with the same number of beams."""
        self._run(partial(diverse_beam_search, num_beam_groups=groups, penalty=penalty))

    def _run(self, search: Callable[..., object]) -> None:
        search(
            self.step,
            self.state,
            self.start,
            end=self.end,
            max_length=LENGTH,
            min_length=LENGTH,
            num_beams=NUM_BEAMS,
            length_penalty=1.0,
        )


def _captioner(head: ShowAndTell | TopDown, channels: int, side: int, batch: int) -> DecodingTask:
    with torch.no_grad():
        state = head.eval().begin(torch.rand(batch, channels, side, side))
    return DecodingTask(head.step, state, torch.full((batch,), 2), 3)


def _gpt2(batch: int) -> DecodingTask:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    ready = generation(
        GPT2LMHeadModel(GPT2Config(n_layer=6)).eval(), {"input_ids": torch.randint(50_000, (batch, 8))}, end=50_256
    )
    return DecodingTask(ready.step, ready.state, ready.start, ready.end)


def _toybox(batch: int) -> DecodingTask:
    network = saywhy.load("toybox:captioner").module
    assert isinstance(network, CaptionModel)
    with torch.no_grad():
        features = network.trunk(torch.rand(batch, 3, 128, 128))
        return DecodingTask(network.head.step, network.head.begin(features), torch.full((batch,), 2), 3)


def _seeded(head: Callable[..., nn.Module], *sizes: int) -> Any:
    torch.manual_seed(0)
    return head(*sizes)


TASKS: dict[str, Callable[[int], DecodingTask]] = {
    "GPT-2 of 6 layers (50,257 words)": _gpt2,
    "top-down attention (10,000 words)": lambda batch: _captioner(_seeded(TopDown, 2048, WORDS), 2048, 14, batch),
    "show-and-tell (10,000 words)": lambda batch: _captioner(_seeded(ShowAndTell, 2048, WORDS), 2048, 7, batch),
    "toybox:captioner": _toybox,
}


def seconds(repeats: int) -> list[Row]:
    """Time, as a ratio to that of beam search."""
    rows = []
    for name, make_task in TASKS.items():
        for batch in (1, 16):
            task = make_task(batch)
            calls = {f"{groups} × {NUM_BEAMS // groups}": partial(task.diverse, groups) for groups in (3, NUM_BEAMS)}
            calls["3 × 2, bigrams"] = partial(task.diverse, 3, ngram(2))
            for how, values in ratios(task.beams, calls, repeats).items():
                rows.append(Row(f"time, {name}, {batch} in a batch", how, formatted(values), GOAL))
                CONSOLE.print(f"{rows[-1].what} | {how} | {rows[-1].ratio}")
    return rows


def memory(_repeats: int) -> list[Row]:
    """Memory growth of a process that only decodes, as a ratio to that of beam search."""
    rows = []
    for name in TASKS:
        peaks = {}
        for groups in (0, 3, NUM_BEAMS):
            code = f"from research.benchmarks.decoding import _peak; _peak({name!r}, {groups})"
            found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            peaks[groups] = float(found.stdout)
        for groups in (3, NUM_BEAMS):
            ratio = f"{peaks[groups] / peaks[0]:.2f}" if peaks[0] else "too small to measure"
            rows.append(Row(f"memory, {name}, 16 in a batch", f"{groups} × {NUM_BEAMS // groups}", ratio, GOAL))
            CONSOLE.print(f"{rows[-1].what} | {rows[-1].who} | {ratio}")
    return rows


def _peak(name: str, groups: int) -> None:
    """Print the peak memory of decoding in MB, beyond the memory of network and inputs."""
    task = TASKS[name](16)
    reset_peak_memory()
    before = peak_memory()
    if groups:
        task.diverse(groups)
    else:
        task.beams()
    print(peak_memory() - before)


PARTS = {"seconds": seconds, "memory": memory}


def page(rows: list[Row], repeats: int) -> str:
    """Return the page as Markdown."""
    lines = "\n".join(f"| {row.what} | {row.who} | {row.ratio} | {row.goal} |" for row in rows)
    return f"""# Cost of diverse beam search

Made by `python -m research.benchmarks.decoding` ({repeats} repeats) on {machine()}.
Ratios to beam search with the same number of beams ({NUM_BEAMS}), both {LENGTH} words long, median (lowest to highest).
The diversity penalty is Hamming's unless stated; the bigram penalty covers every word of the vocabulary. Memory is that
of the process beyond network and inputs. Networks have random weights, except that of Toybox.

| what | groups × beams | ratio | goal |
| --- | --- | --- | --- |
{lines}
"""


def main(
    only: Annotated[list[str] | None, typer.Option(help=f"Parts: {', '.join(PARTS)}.")] = None,
    repeats: Repeats = 5,
    out: Out = None,
) -> None:
    """Measure the cost of diverse beam search."""
    report(PARTS, only, repeats, page, out)


if __name__ == "__main__":
    typer.run(main)
