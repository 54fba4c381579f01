"""The queue: fair turns, bounds, progress, stopping; what is kept."""

import threading
import time
import warnings

import pytest

from saywhy.errors import InputError, SaywhyWarning
from saywhy.progress import counted
from saywhy.studio.jobs import Busy, Job, JobQueue
from saywhy.studio.kept import Kept
from saywhy.studio.settings import StudioSettings


@pytest.fixture
def held():
    """A queue whose worker waits at its first job until it is let go."""
    queue, go = JobQueue(waiting=4, per_visitor=2), threading.Event()
    begun = threading.Event()

    def first(_: Job) -> None:
        begun.set()
        go.wait(10)

    queue.submit(Job(first, "first"))
    begun.wait(10)
    yield queue, go
    go.set()
    queue.close()


def test_visitors_take_turns(held):
    queue, go = held
    order: list[str] = []
    jobs = [queue.submit(Job(lambda _, name=name: order.append(name), name[0])) for name in ("a1", "a2", "b1", "c1")]
    go.set()
    for job in jobs:
        assert job.ended.wait(10)
    assert order == ["a1", "b1", "c1", "a2"]


def test_a_full_queue_says_so(held):
    queue, _ = held
    for name in ("a", "a"):
        queue.submit(Job(lambda _: None, name))
    with pytest.raises(Busy, match="you have 2 requests waiting"):
        queue.submit(Job(lambda _: None, "a"))
    for name in ("b", "c"):
        queue.submit(Job(lambda _: None, name))
    with pytest.raises(Busy, match="4 requests are waiting, the most that are allowed"):
        queue.submit(Job(lambda _: None, "d"))


def test_progress_is_reported_and_a_job_stops_at_its_next_step():
    queue = JobQueue()
    begun = threading.Event()

    def long(_: Job) -> None:
        with counted("occlusion", 1000) as advance:
            for _ in range(1000):
                advance(1)
                begun.set()
                time.sleep(0.01)

    job = queue.submit(Job(long, "a"))
    begun.wait(10)
    assert (job.state, job.doing, job.steps) == ("running", "occlusion", 1000)
    queue.stop(job)
    assert job.ended.wait(10)
    assert job.state == "stopped"
    assert job.step < 900
    after = queue.submit(Job(lambda j: j.give(1), "a"))
    assert after.ended.wait(10)
    assert (after.state, after.parts) == ("done", [1])
    queue.close()


def test_warnings_are_notes_for_the_visitor():
    queue = JobQueue()

    def warn(_: Job) -> None:
        warnings.warn("the map is zero", SaywhyWarning, stacklevel=1)

    job = queue.submit(Job(warn, "a"))
    assert job.ended.wait(10)
    assert (job.state, job.notes) == ("done", ["the map is zero"])
    queue.close()


def test_a_waiting_job_stops_at_once(held):
    queue, _ = held
    job = queue.submit(Job(lambda _: None, "a"))
    queue.stop(job)
    assert (job.state, queue.waiting()) == ("stopped", 0)


def test_a_failing_job_does_not_end_the_worker():
    queue = JobQueue()

    def fail(_: Job) -> None:
        raise ZeroDivisionError

    failed = queue.submit(Job(fail, "a"))
    assert failed.ended.wait(10)
    assert (failed.state, type(failed.error)) == ("failed", ZeroDivisionError)
    assert queue.submit(Job(lambda _: None, "a")).ended.wait(10)
    queue.close()


def test_a_closed_queue_ends_every_job(held):
    queue, _ = held
    jobs = [queue.submit(Job(lambda _: None, name)) for name in "ab"]
    queue.close()
    assert [job.state for job in jobs] == ["stopped", "stopped"]


def test_what_is_not_used_is_dropped():
    now = [0.0]
    kept = Kept[str](most=2, seconds=10, clock=lambda: now[0])
    a, b = kept.add("a"), kept.add("b")
    assert kept.get(a) == "a"  # so that b is the oldest
    kept.add("c")
    assert (kept.get(b), kept.get(a), len(kept)) == (None, "a", 2)
    now[0] = 11.0
    assert (kept.get(a), len(kept)) == (None, 0)
    assert len({kept.add("x") for _ in range(100)}) == 100


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"host": "0.0.0.0"}, "open to other machines"),
        ({"host": "0.0.0.0", "public": True}, "a token of at least 16 characters"),
        ({"host": "0.0.0.0", "public": True, "token": "short"}, "a token of at least 16 characters"),
        ({"port": 70000}, "port"),
        ({"largest_upload": 0}, "largest_upload"),
    ],
)
def test_settings_are_checked(given, message):
    with pytest.raises(InputError, match=message):
        StudioSettings(**given)


def test_settings_come_from_the_environment():
    found = StudioSettings.from_environment({"SAYWHY_STUDIO_PORT": "9", "SAYWHY_STUDIO_TOKEN": "t" * 20}, host=None)
    assert (found.port, found.token) == (9, "t" * 20)
    assert StudioSettings.from_environment({"SAYWHY_STUDIO_PORT": "9"}, port=8).port == 8
    public = StudioSettings.from_environment({"SAYWHY_STUDIO_TOKEN": "t" * 20}, public=True)
    assert public.token == "t" * 20  # the environment's, not a new one
    assert len(StudioSettings.from_environment({"SAYWHY_STUDIO_PUBLIC": "yes"}).token or "") == 32
    with pytest.raises(InputError, match="SAYWHY_STUDIO_PORT must be a whole number, got 'x'"):
        StudioSettings.from_environment({"SAYWHY_STUDIO_PORT": "x"})
    with pytest.raises(InputError, match="SAYWHY_STUDIO_PUBLIC must be yes or no"):
        StudioSettings.from_environment({"SAYWHY_STUDIO_PUBLIC": "maybe"})


def test_warnings_of_other_threads_are_no_notes():
    queue, begun, go = JobQueue(), threading.Event(), threading.Event()

    def work(_: Job) -> None:
        begun.set()
        go.wait(10)
        warnings.warn("mine", SaywhyWarning, stacklevel=1)

    job = queue.submit(Job(work, "a"))
    begun.wait(10)
    with pytest.warns(SaywhyWarning, match="of another thread"):
        warnings.warn("of another thread", SaywhyWarning, stacklevel=1)
    go.set()
    assert job.ended.wait(10)
    assert job.notes == ["mine"]
    queue.close()


def test_closing_stops_the_running_job():
    queue, begun = JobQueue(), threading.Event()

    def long(_: Job) -> None:
        with counted("occlusion", 2000) as advance:
            begun.set()
            for _ in range(2000):
                time.sleep(0.005)
                advance(1)

    job = queue.submit(Job(long, "a"))
    begun.wait(10)
    queue.close()
    assert job.ended.wait(10)
    assert job.state == "stopped"


def test_the_owner_of_most_values_loses_one():
    kept: Kept[str] = Kept(most=3, seconds=60)
    mine = kept.add("mine", "me")
    greedy = [kept.add(str(number), "greedy") for number in range(5)]
    assert kept.get(mine) == "mine"
    assert [kept.get(key) for key in greedy] == [None, None, None, "3", "4"]
    kept.remove_where(lambda value: value == "3")
    assert len(kept) == 2


class TestTogether:
    """Jobs of the same key are computed at once; each gets its own part and nothing of the others."""

    def submit(self, queue, names, batch, key="k"):
        def alone(job):
            job.give(f"{job.image} alone")

        return [queue.submit(Job(alone, name, image=name, batch=batch, key=key)) for name in names]

    def parts(self, jobs):
        for job in jobs:
            assert job.ended.wait(10)
        return [(job.state, job.parts) for job in jobs]

    def test_waiting_jobs_of_one_key_are_computed_at_once(self, held):
        queue, go = held
        calls = []

        def batch(images):
            calls.append(list(images))
            return [f"{image} of {len(images)}" for image in images]

        jobs = self.submit(queue, "abc", batch)
        other = self.submit(queue, "d", batch, "other")
        go.set()
        assert self.parts(jobs) == [("done", [f"{name} of 3"]) for name in "abc"]
        assert self.parts(other) == [("done", ["d alone"])]
        assert calls == [["a", "b", "c"]]

    def test_what_fails_or_warns_at_once_is_computed_one_by_one(self, held):
        queue, go = held

        def fails(images):
            raise ValueError("no batches")

        def warns(images):
            warnings.warn("a.png is odd", SaywhyWarning, stacklevel=1)
            return [f"{image} at once" for image in images]

        first, second = self.submit(queue, "ab", fails), self.submit(queue, "cd", warns, "other")
        go.set()
        assert self.parts(first) == [("done", [f"{name} alone"]) for name in "ab"]
        assert self.parts(second) == [("done", [f"{name} alone"]) for name in "cd"]
        assert [job.notes for job in (*first, *second)] == [[], [], [], []]

    def test_jobs_that_warned_at_once_are_not_tried_again(self, held):
        queue, go = held
        calls = []

        def warns(images):
            calls.append(len(images))
            warnings.warn("odd", SaywhyWarning, stacklevel=1)
            return list(images)

        first = self.submit(queue, "ab", warns)
        go.set()
        assert self.parts(first) == [("done", [f"{name} alone"]) for name in "ab"]
        second = self.submit(queue, "cd", warns)
        assert self.parts(second) == [("done", [f"{name} alone"]) for name in "cd"]
        assert calls == [2]

    def test_a_stopped_job_gets_no_part_in_the_others(self, held):
        queue, go = held
        begun = threading.Event()

        def batch(images):
            begun.set()
            with counted("occlusion", 2000) as advance:
                for _ in range(2000):
                    if all(job.asked_to_stop for job in jobs[:2]):
                        break
                    time.sleep(0.005)
                    advance(1)
            return [f"{image} at once" for image in images]

        jobs = self.submit(queue, "abc", batch)
        go.set()
        assert begun.wait(10)
        for job in jobs[:2]:
            queue.stop(job)
        assert [state for state, _ in self.parts(jobs)] == ["stopped", "stopped", "done"]
        assert jobs[2].parts == ["c at once"]

    def test_all_stopped_jobs_end_the_batch(self, held):
        queue, go = held
        begun = threading.Event()

        def batch(images):
            begun.set()
            with counted("occlusion", 2000) as advance:
                for _ in range(2000):
                    time.sleep(0.005)
                    advance(1)
            return list(images)

        jobs = self.submit(queue, "ab", batch)
        go.set()
        assert begun.wait(10)
        for job in jobs:
            queue.stop(job)
        assert self.parts(jobs) == [("stopped", []), ("stopped", [])]

    def test_at_most_eight_are_computed_at_once(self):
        queue, go, sizes = JobQueue(), threading.Event(), []
        queue.submit(Job(lambda _: go.wait(10), "first"))

        def batch(images):
            sizes.append(len(images))
            return list(images)

        jobs = self.submit(queue, [str(number) for number in range(11)], batch)
        go.set()
        assert self.parts(jobs) == [("done", [str(number)]) for number in range(11)]
        assert sizes == [8, 3]
        queue.close()
