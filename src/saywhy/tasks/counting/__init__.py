"""Counting: networks that count the objects of every class, their data, baselines and training, and ``count``."""

from saywhy.tasks.registry import Task, register

register(
    Task(
        "counting",
        "saywhy.tasks.counting.count:count",
        title="Object counting",
        paper="Chattopadhyay et al., 2017",
        reading="the number of objects of every class in an image, with maps of both signs",
    )
)
