"""Image captioning: networks, readers and ``caption``."""

from saywhy.tasks.registry import Task, register

register(
    Task(
        "captioning",
        "saywhy.tasks.captioning.caption:caption",
        title="Image captioning",
        paper="Vinyals et al., 2015",
        reading="a caption of an image, with a map of each of its words",
    )
)
