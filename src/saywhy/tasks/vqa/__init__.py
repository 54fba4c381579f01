"""Visual question answering: networks, data sets, accuracy and ``ask``."""

from saywhy.tasks.registry import Task, register

register(
    Task(
        "vqa",
        "saywhy.tasks.vqa.ask:ask",
        title="Visual question answering",
        paper="Antol et al., 2015",
        reading="answers to a question about an image, with maps and an uncertainty report",
        metrics=("saywhy.tasks.vqa.accuracy",),
    )
)
