"""The generated people: how each looks, sounds and shows what they feel, all from one seed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np

from offline.performer.voice import Voice

Colour = tuple[int, int, int]
HairStyle = Literal["bald", "buzz", "short", "side", "swept", "curly", "bob", "long", "bun"]
Glasses = Literal["none", "round", "square"]
Backdrop = Literal["plain", "shelf", "window", "panels"]


@dataclass(frozen=True)
class FaceShape:
    """Proportions as factors of a plain adult face (1.0), but for `jaw`, `lashes`, `beard` and `freckles`: 0 to 1."""

    width: float = 1.0
    jaw: float = 0.5
    eye_size: float = 1.0
    eye_spacing: float = 1.0
    eye_tilt: float = 0.0
    nose_width: float = 1.0
    nose_length: float = 1.0
    lip_fullness: float = 1.0
    mouth_width: float = 1.0
    brow_weight: float = 1.0
    lashes: float = 1.0
    beard: float = 0.0
    freckles: float = 0.0


@dataclass(frozen=True)
class Looks:
    """Colours (RGB), hair and clothes."""

    skin: Colour = (226, 180, 150)
    hair: Colour = (92, 58, 36)
    iris: Colour = (96, 72, 50)
    lips: Colour = (190, 104, 98)
    shirt: Colour = (62, 96, 128)
    style: HairStyle = "side"
    glasses: Glasses = "none"


@dataclass(frozen=True)
class Scene:
    """Where the person sits: framing, light, and what is behind them.

    `scale` is half the face's width as a part of the picture's height; `centre` the middle of the head as parts of
    width and height. Light comes from `light` (x, y in [-1, 1], positive: right, below) and is `warmth` redder;
    `exposure` is a factor; `grain` the camera noise's standard deviation in grey levels.
    """

    scale: float = 0.23
    centre: tuple[float, float] = (0.5, 0.5)
    light: tuple[float, float] = (-0.5, -0.5)
    contrast: float = 1.0
    warmth: float = 0.0
    exposure: float = 1.0
    grain: float = 0.0
    backdrop: Backdrop = "plain"
    wall: Colour = (168, 176, 180)
    accent: Colour = (120, 130, 140)


@dataclass(frozen=True)
class Habits:
    """How much of a feeling gets out, and what a face does by itself: what makes people hard to compare.

    Gains multiply what is felt; biases are added in the units of what is felt.
    """

    face_gain: float = 1.0
    voice_gain: float = 1.0
    smile_bias: float = 0.0
    eye_bias: float = 0.0
    voice_bias: float = 0.0
    restlessness: float = 1.0
    blinks_per_minute: float = 16.0


@dataclass(frozen=True)
class Person:
    """One generated person."""

    name: str
    shape: FaceShape = field(default_factory=FaceShape)
    looks: Looks = field(default_factory=Looks)
    scene: Scene = field(default_factory=Scene)
    voice: Voice = field(default_factory=Voice)
    habits: Habits = field(default_factory=Habits)
    seed: int = 0


# Voices that vosk-tiny was trained on and, over 14 sentences each at all pitches and tempi used here, heard
# without an error or nearly so; by the height of voice that they suit.
_HIGH_VOICES: Final = ("f1", "f2", "f5", "belinda", "Alicia", "Annie", "linda", "steph")
_LOW_VOICES: Final = ("", "m1", "m2", "m3", "m6", "m7", "adam", "ed", "robert", "michel", "paul", "john", "david",
                      "Denis", "Diogo", "Gene", "Lee", "Marco", "victor", "travis", "quincy", "grandpa")  # fmt: skip
_ACCENTS: Final = ("en-us", "en-us", "en-us", "en", "en-gb-x-rp")

_SKINS: Final[tuple[Colour, ...]] = (
    (246, 212, 190), (238, 196, 168), (226, 180, 148), (214, 166, 130), (198, 146, 110), (172, 120, 86),
    (146, 100, 72), (122, 84, 62),
)  # fmt: skip
_HAIRS: Final[tuple[Colour, ...]] = (
    (34, 28, 26), (58, 40, 30), (92, 60, 38), (128, 84, 48), (176, 130, 76), (206, 168, 110), (148, 70, 38),
    (150, 148, 146), (206, 204, 200),
)  # fmt: skip
_IRISES: Final[tuple[Colour, ...]] = (
    (74, 50, 34),
    (96, 68, 42),
    (92, 104, 62),
    (82, 116, 142),
    (104, 124, 132),
)
_SHIRTS: Final[tuple[Colour, ...]] = (
    (52, 84, 120), (126, 52, 56), (62, 104, 84), (70, 70, 78), (196, 190, 178), (158, 120, 66), (106, 76, 124),
    (40, 44, 52),
)  # fmt: skip
_WALLS: Final[tuple[Colour, ...]] = (
    (176, 182, 184), (196, 186, 168), (150, 168, 178), (164, 178, 158), (188, 170, 172), (128, 134, 146),
    (206, 206, 202), (112, 124, 118),
)  # fmt: skip


def make_person(seed: int, number: int) -> Person:
    """Person `number` of a corpus with this seed: the same one on every machine, different from their neighbours."""
    rng = np.random.default_rng([seed, number, 1])
    high = bool((number + rng.integers(2)) % 2)
    # Skins, hair and walls walk through their tables, so that a small corpus has some of everything.
    skin_at = (number * 3 + int(rng.integers(len(_SKINS)))) % len(_SKINS)
    skin = _shift(rng, _SKINS[skin_at], 6)
    dark = skin_at >= 5
    hair = _shift(rng, _HAIRS[int(rng.integers(3 if dark else len(_HAIRS)))], 5)
    styles: tuple[HairStyle, ...] = ("bob", "long", "bun", "swept", "curly", "long") if high else (
        "short", "side", "buzz", "bald", "swept", "curly", "short")  # fmt: skip
    glasses: tuple[Glasses, ...] = ("none", "none", "none", "round", "square")
    backdrops: tuple[Backdrop, ...] = ("plain", "shelf", "window", "panels")
    wall = _shift(rng, _WALLS[(number * 5 + int(rng.integers(8))) % len(_WALLS)], 8)
    return Person(
        name=f"performer{number:03d}",
        shape=FaceShape(
            width=_about(rng, 0.92 if high else 0.99, 0.04),
            jaw=float(rng.uniform(0.1, 0.5) if high else rng.uniform(0.4, 1.0)),
            eye_size=_about(rng, 1.12 if high else 1.0, 0.07),
            eye_spacing=_about(rng, 1.0, 0.04),
            eye_tilt=_about(rng, 0.0, 0.02),
            nose_width=_about(rng, 0.92 if high else 1.06, 0.1),
            nose_length=_about(rng, 1.0, 0.06),
            lip_fullness=_about(rng, 1.15 if high else 0.9, 0.12),
            mouth_width=_about(rng, 1.0, 0.06),
            brow_weight=_about(rng, 0.75 if high else 1.15, 0.15),
            lashes=float(rng.uniform(0.6, 1.0) if high else rng.uniform(0.1, 0.4)),
            beard=0.0 if high else float(rng.choice([0.0, 0.0, 0.35, 0.8])),
            freckles=float(rng.choice([0.0, 0.0, 0.0, 0.3])) if not dark else 0.0,
        ),
        looks=Looks(
            skin=skin,
            hair=hair,
            iris=_shift(rng, _IRISES[int(rng.integers(2 if dark else len(_IRISES)))], 6),
            lips=_lips(rng, skin, high),
            shirt=_shift(rng, _SHIRTS[int(rng.integers(len(_SHIRTS)))], 10),
            style=styles[int(rng.integers(len(styles)))],
            glasses=glasses[int(rng.integers(len(glasses)))],
        ),
        scene=Scene(
            scale=_about(rng, 0.23, 0.012),
            centre=(_about(rng, 0.5, 0.025), _about(rng, 0.48, 0.012)),
            light=(float(rng.uniform(-1, 1)), float(rng.uniform(-0.9, -0.2))),
            contrast=float(rng.uniform(0.8, 1.3)),
            warmth=_about(rng, 0.02, 0.025),
            exposure=_about(rng, 1.0, 0.08),
            grain=float(rng.uniform(0.0, 3.0)),
            backdrop=backdrops[int(rng.integers(len(backdrops)))],
            wall=wall,
            accent=_shift(rng, _WALLS[int(rng.integers(len(_WALLS)))], 30),
        ),
        voice=Voice(
            name=_voice_name(rng, high),
            pitch=_about(rng, 52 if high else 40, 6),
            rate_wpm=_about(rng, 165, 7),
            timbre=_about(rng, 1.02 if high else 0.98, 0.02),
            tilt_db=_about(rng, 0.0, 2.0),
        ),
        habits=Habits(
            face_gain=_about(rng, 1.0, 0.12),
            voice_gain=_about(rng, 1.0, 0.12),
            smile_bias=_about(rng, 0.0, 0.09),
            eye_bias=_about(rng, 0.0, 0.12),
            voice_bias=_about(rng, 0.0, 0.06),
            restlessness=_about(rng, 1.0, 0.2),
            blinks_per_minute=float(rng.uniform(10, 24)),
        ),
        seed=int(rng.integers(2**31)),
    )


# The person of the demo recording: in no corpus, whatever its seed.
DEMO_PERSON: Final = Person(
    name="demo",
    shape=FaceShape(width=0.95, jaw=0.3, eye_size=1.15, lip_fullness=1.1, brow_weight=0.85, nose_width=0.94),
    looks=Looks(
        skin=(236, 190, 160), hair=(98, 58, 36), iris=(86, 112, 74), lips=(198, 98, 94), shirt=(44, 98, 112),
        style="bob",
    ),
    scene=Scene(
        scale=0.235, centre=(0.5, 0.47), light=(-0.6, -0.6), contrast=1.0, warmth=0.03, exposure=1.02,
        backdrop="shelf", wall=(186, 190, 182), accent=(150, 118, 92),
    ),
    voice=Voice(name="en-us+f2", pitch=48, rate_wpm=160),
    habits=Habits(face_gain=1.05, restlessness=0.9, blinks_per_minute=15),
    seed=20_220_324,
)  # fmt: skip


def _about(rng: np.random.Generator, mean: float, spread: float) -> float:
    """A normal draw, never further than two standard deviations out."""
    return float(mean + spread * np.clip(rng.standard_normal(), -2, 2))


def _shift(rng: np.random.Generator, colour: Colour, by: float) -> Colour:
    """The colour, a little off."""
    lighter = rng.normal(0, by)
    r, g, b = (int(np.clip(c + lighter + rng.normal(0, by / 3), 0, 255)) for c in colour)
    return r, g, b


def _lips(rng: np.random.Generator, skin: Colour, painted: bool) -> Colour:
    """Lips: the skin, redder and darker; more so where painted."""
    strength = float(rng.uniform(0.5, 1.0)) if painted else float(rng.uniform(0.1, 0.4))
    r, g, b = skin
    return (
        int(r * (0.90 - 0.05 * strength)),
        int(g * (0.70 - 0.22 * strength)),
        int(b * (0.74 - 0.18 * strength)),
    )


def _voice_name(rng: np.random.Generator, high: bool) -> str:
    """An espeak-ng voice: an accent and a variant."""
    accent = _ACCENTS[int(rng.integers(len(_ACCENTS)))]
    variants = _HIGH_VOICES if high else _LOW_VOICES
    variant = variants[int(rng.integers(len(variants)))]
    return f"{accent}+{variant}" if variant else accent
