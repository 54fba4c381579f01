"""Built backgrounds: street and room."""

from saywhy.toybox.scenes.colour import RGB, mix
from saywhy.toybox.scenes.easel import WHITE, Easel
from saywhy.toybox.scenes.outside import sky
from saywhy.toybox.scenes.seeded_random import SeededRandom

FRONTS: tuple[RGB, ...] = (
    (206, 150, 124),
    (188, 170, 160),
    (222, 190, 148),
    (166, 154, 170),
    (196, 126, 112),
    (170, 186, 182),
)
WALLS: tuple[RGB, ...] = (
    (238, 214, 178),
    (196, 216, 204),
    (236, 196, 184),
    (200, 204, 226),
    (244, 228, 190),
    (214, 190, 206),
)


def street(easel: Easel, rng: SeededRandom) -> float:
    """A row of tall fronts, a pavement and a road."""
    horizon = rng.uniform(0.5, 0.6)
    sky(easel, rng, horizon * 0.7)
    x = rng.uniform(-0.15, 0)
    while x < 1:
        wide, top = rng.uniform(0.16, 0.3), rng.uniform(0.08, 0.3)
        _front(easel, rng, x, top, x + wide, horizon)
        x += wide
    easel.wash(horizon, horizon + 0.12, (206, 196, 188), (190, 180, 176))
    slab = rng.uniform(0, 0.1)
    for i in range(8):
        easel.pen.line(((slab + i * 0.14, horizon), (slab + i * 0.17 - 0.08, horizon + 0.12)), 0.005, (168, 158, 156))
    easel.pen.box(0, horizon + 0.115, 1, horizon + 0.14, (226, 220, 212))
    easel.wash(horizon + 0.14, 1, (124, 120, 130), (98, 94, 106))
    shift = rng.uniform(0, 0.2)
    for i in range(-1, 5):
        left, y = shift + i * 0.26, (horizon + 0.14 + 1) / 2
        easel.pen.polygon(
            ((left + 0.02, y - 0.012), (left + 0.15, y - 0.012), (left + 0.13, y + 0.014), (left, y + 0.014)),
            (240, 234, 214),
        )
    return horizon


def _front(easel: Easel, rng: SeededRandom, left: float, top: float, right: float, bottom: float) -> None:
    """The front of one town house: windows in rows, a cornice."""
    wall = mix(rng.choice(FRONTS), (226, 222, 226), 0.25)
    easel.pen.box(left, top, right, bottom, wall)
    easel.pen.box(left, top, right, top + 0.02, mix(wall, (90, 70, 80), 0.35))
    easel.pen.box(right - 0.012, top, right, bottom, mix(wall, (90, 70, 80), 0.25))
    lit, dark = (250, 226, 160), mix(wall, (84, 96, 124), 0.6)
    columns = 2 if right - left < 0.22 else 3
    step = (right - left) / columns
    y = top + 0.05
    while y < bottom - 0.1:
        for i in range(columns):
            x = left + i * step + step * 0.24
            easel.pen.box(x, y, x + step * 0.48, y + 0.055, lit if rng.bernoulli(0.25) else dark)
        y += 0.1


def room(easel: Easel, rng: SeededRandom) -> float:
    """A wall with paper, a window or a picture, floor boards and a rug."""
    horizon = rng.uniform(0.5, 0.62)
    wall = rng.choice(WALLS)
    easel.wash(0, horizon, mix(wall, WHITE, 0.1), mix(wall, (150, 110, 100), 0.14))
    _wallpaper(easel, rng, mix(wall, WHITE, 0.4), horizon)
    if rng.bernoulli(0.55):
        _window(easel, rng, horizon)
    for _ in range(rng.integer(0, 2)):
        x, y, w, h = rng.uniform(0, 0.85), rng.uniform(0.06, 0.22), rng.uniform(0.1, 0.18), rng.uniform(0.1, 0.18)
        easel.pen.box(x, y, x + w, y + h, rng.choice(((134, 92, 66), (222, 186, 110), (92, 84, 96))))
        easel.pen.box(
            x + 0.016,
            y + 0.016,
            x + w - 0.016,
            y + h - 0.016,
            rng.choice(((206, 224, 220), (246, 226, 200), (216, 160, 140))),
        )
        easel.pen.polygon(
            ((x + 0.016, y + h - 0.016), (x + w / 2, y + h * 0.45), (x + w - 0.016, y + h - 0.016)), (142, 164, 140)
        )
    boards = rng.choice(((196, 146, 98), (170, 122, 86), (214, 172, 124)))
    easel.wash(horizon, 1, mix(boards, (70, 44, 44), 0.12), boards)
    easel.pen.box(0, horizon - 0.035, 1, horizon, (248, 240, 226))
    for i in range(4):
        y = horizon + (1 - horizon) * (0.12 + 0.24 * i)
        easel.pen.line(((0, y), (1, y)), 0.005, mix(boards, (80, 50, 46), 0.4))
    if rng.bernoulli(0.6):
        x, y, rug = (
            rng.uniform(0.25, 0.75),
            rng.uniform(horizon + 0.16, 0.86),
            rng.choice(((196, 92, 88), (96, 132, 156), (222, 176, 104))),
        )
        easel.pen.oval(x, y, 0.36, 0.1, mix(rug, WHITE, 0.5))
        easel.pen.oval(x, y, 0.34, 0.09, rug)
        easel.pen.oval(x, y, 0.24, 0.06, mix(rug, WHITE, 0.25))
    return horizon


def _wallpaper(easel: Easel, rng: SeededRandom, colour: RGB, horizon: float) -> None:
    """Stripes, dots or nothing."""
    pattern = rng.integer(0, 2)
    if pattern == 0:
        for i in range(9):
            easel.pen.box(0.12 * i, 0, 0.12 * i + 0.045, horizon, colour)
    elif pattern == 1:
        for row in range(5):
            for column in range(8):
                y = 0.06 + row * 0.125
                if y < horizon - 0.04:
                    easel.pen.disc(column * 0.135 + 0.066 * (row % 2), y, 0.014, colour)


def _window(easel: Easel, rng: SeededRandom, horizon: float) -> None:
    """A window with a view of the sky, and a curtain."""
    x, w, top, bottom = rng.uniform(0.06, 0.6), rng.uniform(0.24, 0.34), 0.08, horizon - 0.16
    easel.pen.box(x - 0.02, top - 0.02, x + w + 0.02, bottom + 0.02, (252, 248, 240))
    easel.pen.box(x, top, x + w, bottom, rng.choice(((170, 214, 236), (250, 214, 180), (150, 186, 222))))
    easel.pen.disc(x + w * 0.3, bottom - 0.01, 0.05, (150, 190, 130))
    easel.pen.box(x, bottom - 0.025, x + w, bottom, (134, 178, 116))
    easel.pen.box(x + w / 2 - 0.008, top, x + w / 2 + 0.008, bottom, (252, 248, 240))
    easel.pen.box(x, (top + bottom) / 2 - 0.008, x + w, (top + bottom) / 2 + 0.008, (252, 248, 240))
    cloth = rng.choice(((224, 128, 116), (244, 206, 130), (146, 176, 196)))
    for side, edge in ((1, x - 0.03), (-1, x + w + 0.03)):
        easel.pen.polygon(
            (
                (edge, top - 0.03),
                (edge + side * 0.1, top - 0.03),
                (edge + side * 0.04, bottom + 0.04),
                (edge, bottom + 0.04),
            ),
            cloth,
        )
