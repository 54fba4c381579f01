"""Visual question generation: networks, readers and ``questions``."""

from saywhy.tasks.registry import Task, register

register(
    Task(
        "questioning",
        "saywhy.tasks.questioning.questions:questions",
        title="Visual question generation",
        paper="Mostafazadeh et al., 2016",
        reading="questions that can be asked about an image, with a map of each and of its words",
    )
)
