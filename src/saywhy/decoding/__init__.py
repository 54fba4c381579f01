"""Decode sentences from a step function: greedy, beam search, diverse beam search and sampling.

A step function takes the last words [row] and a state. It returns the log-probabilities [row, word] of the next words
and the next state; see :mod:`saywhy.decoding.step`. A word is a token: an index into the vocabulary. The step function
may be a captioner, another library's decoder or a table. A batch is decoded at once; the result of a sample does not
depend on the other samples.
"""

from saywhy.decoding.beam import beam_search
from saywhy.decoding.decoded import Decoded, LengthPenalty, gnmt
from saywhy.decoding.diverse import DiverseDecoded, diverse_beam_search
from saywhy.decoding.greedy import greedy
from saywhy.decoding.sampling import sample
from saywhy.decoding.step import DecoderState, Reorderable, Step

__all__ = [
    "Decoded",
    "DecoderState",
    "DiverseDecoded",
    "LengthPenalty",
    "Reorderable",
    "Step",
    "beam_search",
    "diverse_beam_search",
    "gnmt",
    "greedy",
    "sample",
]
