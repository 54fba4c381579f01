"""Visual question answering: networks, readers, scores and ``ask``."""

from saywhy.tasks.registry import Task, register

register(
    Task(
        "vqa",
        "saywhy.tasks.vqa.ask:ask",
        title="Visual question answering",
        paper="Antol et al., 2015",
        reading="the answers to a question about an image, why, and how certain they are",
    )
)
