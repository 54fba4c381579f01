"""The studio under load: latencies of many simultaneous users, its memory, and what it refuses.

    python -m research.benchmarks.studio --out docs/benchmarks-studio.md
    python -m research.benchmarks.studio --users 10 --seconds 20

The studio runs in a process of its own, as ``saywhy studio`` does. Each user gives a new image, asks for the top three
classes by Grad-CAM, follows the result, reads it, and thinks for a while; every fourth request asks again about the
same image. The latency is the time from the request until its result is there, both over HTTP. "Busy" (503) is the
answer of a full queue: the user waits and asks again. Server and users share the machine's cores.
"""

import asyncio
import io
import os
import random
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Annotated

import torch
import typer
from PIL import Image

import saywhy
from research.claims.measure import table
from research.options import Out
from saywhy.io.atomic import write_text
from saywhy.toybox import scene

MODEL = "toybox:classifier"

THINK = 4.0
"""The mean number of seconds between two requests of a user."""

AGAIN = 4
"""Every so many requests one is about the image before."""


@dataclass
class Load:
    """What all users saw.

    Attributes:
        new, again: seconds of requests about new images, and of those that had been asked before.
        busy: requests that were refused because the queue was full.
        errors: everything else that was no result.
        memory: MB of the server's process, in seconds from the beginning.
    """

    new: list[float] = field(default_factory=list)
    again: list[float] = field(default_factory=list)
    busy: int = 0
    errors: list[str] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)


@contextmanager
def served() -> Iterator[tuple[str, int]]:
    """Serve the studio in a process; yield its address and the process's id."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "saywhy", "studio", "--model", MODEL, "--port", str(port)]
    settings = {"SAYWHY_STUDIO_PER_MINUTE": "100000", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env={**os.environ, **settings}, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with socket.socket() as trial:
                if trial.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        process.terminate()
        process.wait(20)


def image_of(number: int) -> bytes:
    """Return a drawn scene as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(scene("test", number % 1000, 256).image).save(buffer, "PNG")
    return buffer.getvalue()


async def use(address: str, number: int, end: float, load: Load) -> None:
    """Be one user until the end."""
    import httpx

    draw, key, count = random.Random(number), "", 0
    async with httpx.AsyncClient(base_url=address, timeout=60) as client:
        await client.get("/")
        await asyncio.sleep(draw.uniform(0, THINK))
        while time.monotonic() < end:
            known = bool(key) and count % AGAIN == 0
            try:
                if not known:
                    data = await asyncio.to_thread(image_of, 1000 * number + count)
                    key = (await client.post("/api/images", content=data)).raise_for_status().json()["id"]
                begin = time.monotonic()
                answer = await client.post("/api/explain?wait=60", json={"image": key, "model": MODEL})
                while answer.status_code == 503:
                    load.busy += 1
                    await asyncio.sleep(draw.uniform(1, 3))
                    answer = await client.post("/api/explain?wait=60", json={"image": key, "model": MODEL})
                if answer.raise_for_status().json()["state"] == "done":
                    (load.again if known else load.new).append(time.monotonic() - begin)
                else:
                    load.errors.append(answer.text[:200])
            except httpx.HTTPError as error:
                load.errors.append(f"{type(error).__name__}: {error}"[:200])
            count += 1
            await asyncio.sleep(draw.expovariate(1 / THINK))


async def watch(process: int, begin: float, end: float, load: Load) -> None:
    """Note the server's memory."""
    while time.monotonic() < end:
        status = Path(f"/proc/{process}/status").read_text()
        kilobytes = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
        load.memory.append((time.monotonic() - begin, kilobytes / 1024))
        await asyncio.sleep(1)


async def run(users: int, seconds: float) -> Load:
    """Let users use a studio for a while."""
    load = Load()
    with served() as (address, process):
        await use(address, users, time.monotonic() + 1, Load())  # loads what is loaded once
        begin = time.monotonic()
        end = begin + seconds
        await asyncio.gather(watch(process, begin, end, load), *(use(address, n, end, load) for n in range(users)))
    return load


def one_pass() -> tuple[float, float]:
    """Return the seconds of a pass of the network, and of the same explanation in Python."""
    torch.set_num_threads(1)
    model = saywhy.load(MODEL)
    pixels = model.preprocess(Image.fromarray(scene("test", 0, 256).image))[0].unsqueeze(0)  # type: ignore[misc]
    image, times = Image.fromarray(scene("test", 0, 256).image), []
    for call in (lambda: model.module(pixels), lambda: saywhy.explain(model, image)):
        call()
        each = []
        for _ in range(15):
            begin = time.perf_counter()
            with torch.no_grad() if not times else torch.enable_grad():
                call()
            each.append(time.perf_counter() - begin)
        times.append(median(each))
    return times[0], times[1]


def page(loads: dict[int, Load], seconds: float, passes: tuple[float, float]) -> str:
    """Return the page."""
    rows = []
    for users, load in loads.items():
        for kind, times in (("new", load.new), ("asked before", load.again)):
            if len(times) < 2:
                continue
            p50, p95 = median(times), quantiles(times, n=20)[-1]
            ratio = f"{p50 / passes[0]:,.0f} / {p95 / passes[0]:,.0f}"
            rows.append([users, kind, len(times), f"{p50:.2f}", f"{p95:.2f}", ratio])
    memory = [
        [
            users,
            load.busy,
            len(load.errors),
            *(f"{load.memory[place][1]:,.0f}" for place in (0, len(load.memory) // 2, -1)),
        ]
        for users, load in loads.items()
    ]
    return f"""# The studio under load

Made by `python -m research.benchmarks.studio`: {seconds:.0f} seconds for each number of simultaneous users, who ask
`{MODEL}` for its top three classes and think for {THINK:g} seconds on average between two requests. Server and users
share {os.cpu_count()} cores; the server computes on one thread. One pass of the network takes {1000 * passes[0]:.1f}
ms, and the same explanation in Python {1000 * passes[1]:.0f} ms; the last column is the latency over one pass.

{table(["users", "image", "requests", "p50, s", "p95, s", "p50 / p95 over one pass"], rows)}

Refused as busy (a full queue; the user asks again), all other errors, and the memory of the server at the beginning, in
the middle and at the end:

{table(["users", "busy", "errors", "MB at the beginning", "in the middle", "at the end"], memory)}
"""


def main(
    users: Annotated[list[int] | None, typer.Option(help="Simultaneous users. Repeatable.")] = None,
    seconds: Annotated[float, typer.Option(min=1, help="Seconds for each number of users.")] = 120.0,
    out: Out = None,
) -> None:
    """Measure, and print or write the page."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard) if soft < 4096 else (soft, hard))
    passes = one_pass()
    loads = {number: asyncio.run(run(number, seconds)) for number in users or [1, 10, 50]}
    for number, load in loads.items():
        for error in dict.fromkeys(load.errors):
            print(f"{number} users: {error}", file=sys.stderr)
    text = page(loads, seconds, passes)
    if out is None:
        print(text)
    else:
        write_text(out, text)


if __name__ == "__main__":
    typer.run(main)
