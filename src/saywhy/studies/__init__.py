"""Studies with people: can they tell from a map which class it is of, and which of two models is better?

The studies of Grad-CAM (Selvaraju et al., 2019, sections 5.1 and 5.2) for any models, images and methods:

- *class discrimination*: a rater sees the map of one of the two classes in an image, and says which one it is of;
- *trust*: a rater sees the maps of two models that both predict the right class, and says on five points which of the
  models is more reasonable.

    saywhy study make out/study trust --data voc:PATH:val -m better.py:network -m worse.py:network
    saywhy studio --study out/study        # raters open the link that is printed
    saywhy study report out/study

A study is a folder: ``study.json``, the images that raters see, and ``answers.sqlite``.
"""

from saywhy.studies.analysis import StudyResult, analyse
from saywhy.studies.answers import Answer, AnswerStore
from saywhy.studies.assignment import Shown, new_study
from saywhy.studies.power import raters_needed
from saywhy.studies.simulated import simulate
from saywhy.studies.study import Study, StudyDesign, StudyItem, read_study, write_study

__all__ = [
    "Answer",
    "AnswerStore",
    "Shown",
    "Study",
    "StudyDesign",
    "StudyItem",
    "StudyResult",
    "analyse",
    "new_study",
    "raters_needed",
    "read_study",
    "simulate",
    "write_study",
]
