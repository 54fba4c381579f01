"""Outdoor backgrounds: meadow, beach, sea, night, snow and wood."""

from saywhy.toybox.scenes.colour import RGB, mix
from saywhy.toybox.scenes.easel import WHITE, Easel
from saywhy.toybox.scenes.seeded_random import SeededRandom

SKIES: tuple[tuple[RGB, RGB], ...] = (
    ((124, 190, 232), (226, 240, 236)),
    ((150, 200, 226), (254, 236, 204)),
    ((236, 178, 160), (254, 232, 196)),
    ((138, 178, 222), (238, 226, 232)),
)


def sky(easel: Easel, rng: SeededRandom, horizon: float) -> None:
    """A daytime sky with clouds, and sometimes a sun."""
    top, bottom = rng.choice(SKIES)
    easel.wash(0, horizon + 0.06, top, bottom)
    if rng.bernoulli(0.5):
        easel.sun(rng, (255, 240, 190), mix(bottom, (255, 236, 180), 0.6))
    easel.clouds(rng, horizon * 0.6)


def meadow(easel: Easel, rng: SeededRandom) -> float:
    """Rolling hills, grass and blossoms."""
    horizon = rng.uniform(0.4, 0.54)
    sky(easel, rng, horizon)
    green = rng.choice(((150, 196, 98), (132, 186, 104), (176, 200, 96)))
    easel.ridge(rng, horizon - 0.1, 0.06, mix(green, (190, 214, 226), 0.55))
    easel.ridge(rng, horizon - 0.03, 0.04, mix(green, (214, 224, 170), 0.35))
    easel.ridge(rng, horizon + 0.03, 0.02, green)
    easel.wash(horizon + 0.1, 1, green, mix(green, (70, 134, 66), 0.55))
    for _ in range(rng.integer(12, 20)):
        x, y, tall = rng.random(), rng.uniform(horizon + 0.08, 1), rng.uniform(0.02, 0.045)
        blade = mix(green, (44, 108, 54), rng.uniform(0.3, 0.75))
        easel.pen.line(((x - 0.012, y - tall), (x, y), (x + 0.014, y - tall * 0.8)), 0.006, blade)
    blossoms = ((255, 252, 240), (250, 214, 92), (244, 150, 170), (196, 160, 226))
    easel.specks(rng, rng.integer(6, 16), horizon + 0.08, 1, 0.009, blossoms)
    return horizon


def beach(easel: Easel, rng: SeededRandom) -> float:
    """Sky, a strip of sea, sand with pebbles and a towel."""
    horizon = rng.uniform(0.44, 0.56)
    sky(easel, rng, horizon - 0.16)
    easel.wash(horizon - 0.17, horizon + 0.04, (70, 156, 188), (142, 212, 212))
    for _ in range(7):
        x, y = rng.random(), rng.uniform(horizon - 0.15, horizon - 0.02)
        easel.pen.line(((x, y), (x + rng.uniform(0.04, 0.12), y)), 0.006, (206, 236, 232))
    sand = rng.choice(((244, 220, 168), (248, 228, 188), (238, 208, 160)))
    easel.ridge(rng, horizon - 0.012, 0.014, (252, 250, 240))
    easel.ridge(rng, horizon + 0.012, 0.012, mix(sand, (150, 130, 110), 0.3))
    easel.ridge(rng, horizon + 0.04, 0.014, sand)
    easel.wash(horizon + 0.08, 1, sand, mix(sand, (214, 166, 108), 0.5))
    easel.specks(
        rng, rng.integer(10, 22), horizon + 0.08, 1, 0.008, ((200, 168, 128), (252, 244, 226), (226, 168, 150))
    )
    if rng.bernoulli(0.6):
        x, y, cloth = (
            rng.uniform(0, 0.8),
            rng.uniform(horizon + 0.15, 0.9),
            rng.choice(((226, 120, 110), (120, 176, 204))),
        )
        for i in range(5):
            a, b = x + i * 0.05, x + (i + 1) * 0.05
            easel.pen.polygon(((a + 0.04, y), (b + 0.04, y), (b, y + 0.1), (a, y + 0.1)), WHITE if i % 2 else cloth)
    return horizon


def sea(easel: Easel, rng: SeededRandom) -> float:
    """Open water with waves, and an island far away."""
    horizon = rng.uniform(0.34, 0.46)
    sky(easel, rng, horizon)
    if rng.bernoulli(0.6):
        x, wide = rng.uniform(0.1, 0.9), rng.uniform(0.1, 0.24)
        isle = [(x - wide, horizon), (x - wide * 0.5, horizon - 0.05), (x, horizon - 0.09), (x + wide, horizon)]
        easel.pen.polygon(isle, (132, 160, 176))
    deep = rng.choice(((52, 118, 168), (46, 134, 152), (70, 128, 186)))
    easel.wash(horizon, 1, mix(deep, (190, 230, 232), 0.5), deep)
    for row in range(6):
        y = horizon + 0.03 + (1 - horizon) * (row / 6) ** 1.2
        crest = mix(deep, (232, 248, 246), 0.62 - 0.05 * row)
        for _ in range(3):
            x, wide = rng.uniform(-0.1, 1), 0.05 + 0.02 * row
            easel.pen.curve(((x, y), (x + wide / 2, y - 0.012 - 0.002 * row), (x + wide, y)), 0.008, crest)
    return horizon


def night(easel: Easel, rng: SeededRandom) -> float:
    """Stars, a moon and dark hills."""
    horizon = rng.uniform(0.48, 0.6)
    low = rng.choice(((74, 78, 136), (96, 80, 134), (60, 92, 138)))
    easel.wash(0, horizon + 0.06, (26, 30, 68), low)
    easel.specks(
        rng, rng.integer(18, 34), 0, horizon - 0.08, 0.005, ((255, 250, 226), (206, 214, 246), (255, 232, 190))
    )
    easel.sun(rng, (252, 244, 210), mix(low, (250, 240, 210), 0.28))
    easel.ridge(rng, horizon - 0.08, 0.05, mix(low, (34, 38, 80), 0.45))
    easel.ridge(rng, horizon, 0.03, (46, 56, 94))
    easel.wash(horizon + 0.05, 1, (52, 70, 98), (36, 50, 74))
    for _ in range(rng.integer(4, 10)):  # far windows, and fireflies
        easel.pen.disc(rng.random(), rng.uniform(horizon - 0.04, 0.95), 0.006, (252, 220, 130))
    for _ in range(12):
        x, y, tall = rng.random(), rng.uniform(horizon + 0.08, 1), rng.uniform(0.02, 0.04)
        easel.pen.line(((x - 0.01, y - tall), (x, y), (x + 0.012, y - tall)), 0.006, (66, 92, 112))
    return horizon


def snow(easel: Easel, rng: SeededRandom) -> float:
    """Mountains, drifts and falling flakes."""
    horizon = rng.uniform(0.42, 0.54)
    top, bottom = rng.choice(
        (((156, 186, 220), (232, 236, 244)), ((198, 186, 220), (250, 228, 226)), ((140, 164, 196), (220, 226, 236)))
    )
    easel.wash(0, horizon + 0.06, top, bottom)
    for _ in range(rng.integer(2, 4)):
        x, tall, wide = rng.random(), rng.uniform(0.14, 0.3), rng.uniform(0.16, 0.3)
        peak = horizon - tall
        easel.pen.polygon(
            ((x - wide, horizon + 0.05), (x, peak), (x + wide, horizon + 0.05)), mix(top, (96, 112, 150), 0.45)
        )
        cap = (
            (x - wide * 0.34, peak + tall * 0.4),
            (x, peak),
            (x + wide * 0.34, peak + tall * 0.4),
            (x, peak + tall * 0.28),
        )
        easel.pen.polygon(cap, (250, 250, 254))
    easel.ridge(rng, horizon, 0.03, (222, 230, 242))
    easel.ridge(rng, horizon + 0.07, 0.025, (238, 243, 249))
    easel.wash(horizon + 0.13, 1, (238, 243, 249), (206, 220, 240))
    easel.ridge(rng, 0.86, 0.04, (226, 234, 246))
    easel.specks(rng, rng.integer(14, 34), 0, 1, 0.008, (WHITE, (250, 252, 255)))
    return horizon


def wood(easel: Easel, rng: SeededRandom) -> float:
    """A misty wood in autumn: trunks, moss and fallen leaves."""
    horizon = rng.uniform(0.46, 0.58)
    mist = rng.choice(((236, 214, 168), (222, 222, 178), (240, 206, 160)))
    easel.wash(0, horizon + 0.06, mix(mist, (176, 150, 90), 0.5), mist)
    for share in (0.35, 0.6, 0.85):
        for _ in range(4):
            x, wide = rng.random(), 0.008 + 0.026 * share * rng.uniform(0.6, 1.2)
            bark = mix(mist, (104, 78, 66), share * 0.75)
            easel.pen.polygon(
                (
                    (x - wide, horizon + 0.07),
                    (x - wide * 0.6, -0.1),
                    (x + wide * 0.6, -0.1),
                    (x + wide, horizon + 0.07),
                ),
                bark,
            )
    easel.ridge(rng, horizon + 0.02, 0.02, (172, 140, 84))
    easel.wash(horizon + 0.06, 1, (168, 134, 80), (124, 92, 62))
    for _ in range(rng.integer(16, 28)):
        leaf = rng.choice(((214, 112, 54), (232, 168, 66), (176, 70, 54), (140, 140, 70)))
        x, y, r = rng.random(), rng.uniform(horizon + 0.07, 1), rng.uniform(0.01, 0.018)
        easel.pen.polygon(((x - r, y), (x, y - r * 0.6), (x + r * 1.2, y + r * 0.2), (x, y + r * 0.6)), leaf)
    return horizon
