"""A small study without models: one map is a grey square."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from saywhy.studies.assignment import new_study
from saywhy.studies.make import CHECKS
from saywhy.studies.study import Study, StudyDesign, StudyItem, write_study


@pytest.fixture
def planted(tmp_path: Path) -> Callable[..., Study]:
    """Make a study of images and methods in a folder."""

    def planted(
        kind: str = "discrimination", images: int = 6, methods: tuple[str, ...] = ("a", "b"), **design: Any
    ) -> Study:
        folder = tmp_path / f"{kind}-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        items = []
        for image in range(images):
            for method in methods:
                for target in range(2 if kind == "discrimination" else 1):
                    key = f"item-{len(items):04d}"
                    names = (f"{key}.png",) if kind == "discrimination" else (f"{key}-0.png", f"{key}-1.png")
                    for name in names:
                        Image.new("L", (8, 8), 128).save(folder / name)
                    one = StudyItem(key, f"{image}.jpg", method, names)
                    items.append(
                        replace(one, options=("cat", "dog"), right=target) if kind == "discrimination"
                        else replace(one, predicted="cat")
                    )  # fmt: skip
        checks = [
            StudyItem(f"check-{n}", "", "", (), ("first", "second") if kind == "discrimination" else (), right,
                      instruction=text)
            for n, (text, right) in enumerate(CHECKS[kind])
        ]  # fmt: skip
        models = ("better", "worse") if kind == "trust" else ("model",)
        options = {"raters": 8, "items_per_rater": 6, **design}
        study = new_study(StudyDesign(kind, models, methods, **options), items, checks, folder, {"data": "planted"})  # type: ignore[arg-type]
        write_study(study)
        return study

    return planted
