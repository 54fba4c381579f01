"""The tables and verdicts of the claims on questions."""

from dataclasses import dataclass

from research.claims.decoder_measures import FIRST, gain_row
from research.claims.decoders import BEAM
from research.claims.maps import MapMeasurements
from research.claims.measure import table
from research.claims.question_decoders import DIVERSE, EVERYBODY, GROUPED, GROUPS, OTHERS, PENALTIES, name_of

OBJECT_COUNTS = (2, 3, 4)
"""Numbers of objects in a scene, which replace the paper's difficulty of an image."""

MARGIN = 0.02
"""Largest loss of truthfulness that still counts as equally truthful."""

OPENING = "Hamming, 6 × 1, first two words only"

PAPER = {BEAM: ("2.3", "15.17, 26.74"), DIVERSE: ("3.7", "16.49, 27.94")}
"""Published: types of 6 questions (first version, VQA); SPICE of the first and the best of 20 (VQG)."""

Row = list[object]


@dataclass(frozen=True)
class QuestionResults:
    """Measurements of questions, by scene.

    Attributes:
        measurements: every measure.
    """

    measurements: MapMeasurements

    def report(self) -> str:
        """Return the tables."""
        return "\n\n".join([self._varied(), self._good(), self._complex(), self._openings(), self._verdicts()])

    def _row(self, who: str, *what: str) -> Row:
        return [who, *(self.measurements.cell(one, who) for one in what)]

    def _varied(self) -> str:
        grams = [f"distinct-{n}" for n in (1, 2, 3, 4)]
        what = ("types", "Toybox types", *grams, "repeated", "map distance")
        rows = [[*self._row(who, *what), PAPER.get(who, ("", ""))[0]] for who in (*EVERYBODY, OPENING)]
        return "## Diversity of the six questions\n\n" + table(["decoder", *what, "paper: types"], rows)

    def _good(self) -> str:
        what = (*(f"oracle@{k}" for k in FIRST), "truthful", "answerable", "answered rightly", "certainty", "preferred",
                "log-probability")  # fmt: skip
        rows = [[*self._row(who, *what), PAPER.get(who, ("", ""))[1]] for who in EVERYBODY]
        return "## Quality\n\n" + table(["decoder", *what, "paper: SPICE@1, @20"], rows)

    def _complex(self) -> str:
        what = [f"{one} of {n}" for one in ("types", "oracle@6") for n in OBJECT_COUNTS]
        rows = [self._row(who, *what) for who in EVERYBODY]
        headings = [f"{one}, {n} objects" for one in ("types", "oracle@6") for n in OBJECT_COUNTS]
        return "## By number of objects\n\n" + table(["decoder", *headings], rows)

    def _openings(self) -> str:
        text = (
            "Captions of Toybox did not show the paper's gain in the best of six "
            "([captions](claims-diverse-captions.md)). Where questions differ, a reason may be that more of a question "
            "is decided by its first two words (what is asked), which the penalty changes first. Then more of the "
            "entropy of questions than of captions lies there, and a penalty of these words alone gives the gain in "
            "types. Both are tested below."
        )
        rows = [self._row(who, "opening") for who in ("questions", "captions")]
        return f"## Why questions may differ from captions\n\n{text}\n\n" + table(
            ["samples", "share of the entropy in the first two words"], rows
        )

    def _verdicts(self) -> str:
        rows = [*self._ordering(), *self._penalties(), *self._truth(), *self._gains(), *self._reasons()]
        return "## Verdicts\n\n" + table(["claim", "difference", "verdict"], rows)

    def _ordering(self) -> list[Row]:
        """Return the paper's ordering: more types, n-grams and a better best question than every other decoder."""
        claim = self.measurements.claim
        return [
            *(claim(f"More types of questions than {who}", "types", DIVERSE, who) for who in OTHERS),
            claim("… with as many groups as beams than with half as many", "types", DIVERSE, GROUPED),
            *(claim(f"More different 4-grams than {who}", "distinct-4", DIVERSE, who) for who in OTHERS),
            *(claim(f"Oracle@6 higher than {who}", "oracle@6", DIVERSE, who) for who in OTHERS),
            claim("The first question is better too: oracle@1 higher than beam search", "oracle@1", DIVERSE, BEAM),
            claim("… and more probable", "log-probability", DIVERSE, BEAM),
            self.measurements.claim_above(
                "Most simulated people prefer the six questions to those of beam search", "preferred", DIVERSE, 0.5
            ),
        ]

    def _penalties(self) -> list[Row]:
        """Return the paper's comparison of penalties: Hamming is the best, and all are better than beam search."""
        claim, others = self.measurements.claim, PENALTIES[1:]
        names = {penalty: name_of(penalty, GROUPS[0]) for penalty in others}
        return [
            *(claim(f"Oracle@6 of Hamming higher than {one}", "oracle@6", DIVERSE, names[one]) for one in others),
            *(claim(f"Oracle@6 of {one} higher than beam search", "oracle@6", names[one], BEAM) for one in others),
            *(claim(f"More types with {one} than with beam search", "types", names[one], BEAM) for one in others),
        ]  # fmt: skip

    def _truth(self) -> list[Row]:
        claim = self.measurements.claim
        least = f"at most {MARGIN:.0%} less than beam search (difference plus margin)"
        return [
            claim(f"Questions are as truthful: {least}", "truthful", DIVERSE, BEAM, -MARGIN),
            claim(f"`toybox:vqa` answers as many rightly: {least}", "answered rightly", DIVERSE, BEAM, -MARGIN),
            claim("Questions have more different maps than those of beam search", "map distance", DIVERSE, BEAM),
        ]

    def _gains(self) -> list[Row]:
        return [
            gain_row(
                self.measurements,
                f"The gain in {what} over beam search grows with the number of objects",
                what,
                (DIVERSE, BEAM),
                OBJECT_COUNTS,
            )
            for what in ("types", "oracle@6")
        ]

    def _reasons(self) -> list[Row]:
        claim = self.measurements.claim
        return [
            claim(
                "More of the entropy of questions than of captions is in the first two words", "opening", "questions",
                "captions",
            ),
            claim("A penalty of the first two words alone gives more types than beam search", "types", OPENING, BEAM),
            claim("… and the whole penalty still more", "types", DIVERSE, OPENING),
            claim("… and more different 4-grams", "distinct-4", DIVERSE, OPENING),
        ]  # fmt: skip
