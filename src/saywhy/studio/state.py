"""``Studio``: what the app holds."""

import asyncio
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from saywhy.models import Model
from saywhy.studio.jobs import Job, JobQueue
from saywhy.studio.kept import Kept
from saywhy.studio.problems import Problem
from saywhy.studio.settings import StudioSettings
from saywhy.studio.visitors import COOKIES, OF_ADDRESS, Rate, Visitors
from saywhy.studio.work import Ask, job_of, tasks_of


class Studio:
    """What the app holds: models, images, results and the queue."""

    def __init__(
        self, models: Mapping[str, Model], examples: Sequence[tuple[str, Image.Image | Path]], settings: StudioSettings
    ) -> None:
        self.models, self.examples, self.settings = dict(models), list(examples), settings
        seconds = 60.0 * settings.keep_minutes
        self.images: Kept[tuple[str, Image.Image, str]] = Kept(settings.images, seconds)
        self.results: Kept[Job] = Kept(settings.results, seconds)
        self.cache: Kept[Job] = Kept(settings.results, seconds)
        self.cached: dict[str, str] = {}
        self.queue = JobQueue(settings.waiting, settings.per_visitor, settings.longest_seconds)
        self.rate, self.rate_of_address = Rate(settings.per_minute), Rate(OF_ADDRESS * settings.per_minute)
        self.visitors, self.new_visitors = Visitors(), Rate(COOKIES)
        self.decoding, self.drawing = asyncio.Semaphore(2), asyncio.Semaphore(1)  # what takes memory takes turns
        self.digests = {name: model.digest() for name, model in self.models.items()}
        self.begun, self.counts = time.monotonic(), {"requests": 0, "jobs": 0, "cached": 0, "refused": 0}

    def forget(self) -> None:
        """Drop what is too old."""
        for kept in (self.images, self.results, self.cache):
            len(kept)

    def remove_image(self, key: str) -> None:
        """Remove an image, and the results in the cache that are about it."""
        found = self.images.get(key)
        self.images.remove(key)
        if found is not None:
            self.cache.remove_where(lambda job: job.about_image == found[2])

    def add_image(self, image: Image.Image, name: str, visitor: str) -> dict[str, Any]:
        """Keep an image, reduced to the longest side that is allowed; return its id, name and sizes."""
        file_width, file_height = image.size
        factor = self.settings.longest_side / max(image.size)
        if factor < 1:
            size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
            image = image.resize(size, Image.Resampling.LANCZOS)
        digest = hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()
        key = self.images.add((name, image, digest), visitor)
        return {
            "id": key, "name": name, "width": image.width, "height": image.height, "file_width": file_width,
            "file_height": file_height,
        }  # fmt: skip

    def submit(self, asked: Ask, image_id: str, visitor: str) -> tuple[str, Job]:
        """Queue a request, or take its result from the cache.

        Raises:
            Problem: there is no such image or model.
            Busy: too many requests wait.
            SaywhyError: the request is wrong.
        """
        found = self.images.get(image_id)
        if found is None:
            raise Problem(
                404, f"there is no image of this id; images are kept for {self.settings.keep_minutes} minutes."
            )
        name, image, digest = found
        able = [one for one, model in self.models.items() if asked.task in tasks_of(model)]
        if asked.model and asked.model not in self.models:
            raise Problem(404, f"there is no model '{asked.model}'; there are {', '.join(self.models)}.")
        if not asked.model and not able:
            raise Problem(422, f"no model of this studio can {asked.task}.")
        asked = replace(asked, model=asked.model or able[0])
        if asked.answer and asked.answer not in [one for one, model in self.models.items() if "ask" in tasks_of(model)]:
            raise Problem(422, f"no model '{asked.answer}' of this studio answers questions.")
        job = job_of(self.models[asked.model], image, name, asked, visitor, self.models.get(asked.answer))
        digests = f"{digest} {self.digests[asked.model]} {self.digests.get(asked.answer)}"
        key = hashlib.sha256(f"{digests} {name} {asked!r}".encode()).hexdigest()
        known = self.cache.get(self.cached.get(key, ""))
        self.counts["jobs"] += 1
        if known is not None and known.state == "done":
            self.counts["cached"] += 1
            job = replace(known, visitor=visitor)
        else:
            job.about_image = digest
            self.queue.submit(job)
            if len(self.cached) > 4 * self.settings.results:
                self.cached.clear()
            self.cached[key] = self.cache.add(job, visitor)
        return self.results.add(job, visitor), job
