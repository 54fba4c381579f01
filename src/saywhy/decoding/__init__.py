"""From a step function to sentences: greedy, beam search, diverse beam search and sampling.

A step takes the last words [row] and a state and gives the log-probabilities [row, word] of the next words and the next
state; see :mod:`saywhy.decoding.step`. Nothing here knows what makes them: a captioner, another library's decoder, a
table. All of a batch is decoded at once, and every sample as if it were alone.
"""

from saywhy.decoding.beam import beam_search
from saywhy.decoding.decoded import Decoded, Normalization, gnmt
from saywhy.decoding.diverse import Diverse, diverse_beam_search
from saywhy.decoding.greedy import greedy
from saywhy.decoding.sampling import sample
from saywhy.decoding.step import Reorderable, State, Step

__all__ = [
    "Decoded",
    "Diverse",
    "Normalization",
    "Reorderable",
    "State",
    "Step",
    "beam_search",
    "diverse_beam_search",
    "gnmt",
    "greedy",
    "sample",
]
