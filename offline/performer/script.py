"""What the performers say: sentences from vosk-tiny's vocabulary, each with the feeling that its words carry.

The tags are ours, on the circumplex of affect (Russell 1980): what the words alone suggest to a reader, before
anyone has heard or seen them said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


@dataclass(frozen=True)
class Line:
    """A sentence, and the valence and arousal in [-1, 1] that its words suggest."""

    text: str
    valence: float
    arousal: float


# One block for each region of the plane: valence, arousal, then the sentences.
_TAGGED: Final = """
0.9 0.85
we won and i am so excited / that is the best news ever / this is the best day of my life / that is amazing
wow that is incredible / i am so excited about the party / we won the game

0.85 0.5
i am so happy / i am so happy today / this makes me so happy / i am really happy to see you
i can not wait to see you / what a great surprise / i can not stop laughing / i love you so much

0.7 0.15
i am very happy for you / i am so proud of you / you did a great job / good job everyone / you make me smile
that was really funny / let us have some fun / i love this song / i love my family / i feel great this morning

0.65 -0.25
i feel wonderful today / today was a wonderful day / what a beautiful day / you are so kind / thank you so much
you are my best friend / i am grateful for this life / thank you for your help / she is a happy woman

0.5 -0.7
i am calm / i feel calm and relaxed / everything is going to be fine / everything is okay / just relax
take a deep breath / it is okay / the weather is nice today

0.0 0.75
that is a big surprise / really i had no idea / i did not see that coming / oh my god / watch out
i can not believe it / are you serious / are you kidding me

0.05 0.0
how was your day / what is your name / my name is anna / what time is it / where are you going / i am going home now
let us go to the park / i would like some coffee / dinner is ready / my brother is at school / come with me
we have to go now / they are coming home tonight / one two three four five / look at me / what are you doing

0.0 -0.75
it is late / good night / i need some sleep / the children are sleeping / i am tired / i am so tired tonight
see you tomorrow / it is raining again / i do not care

-0.4 -0.6
i am bored / this is so boring / i am very tired of this / i do not know what to do / i feel sick
i have a bad feeling about this / that was a bad idea

-0.75 -0.6
i am sad / i feel lonely tonight / i miss you every day / i am so sorry / nothing matters anymore
nobody cares about me / i have no hope left / i feel so sad and alone / i miss my friend / my heart is broken

-0.75 -0.15
i am very sad today / i want to cry / she left me and i am sad / he said goodbye and i cried / i lost my job today
everything is going wrong / my dog died last night / i feel so guilty about it / i am ashamed of what i did

-0.6 0.3
i am disappointed in you / this is not fair / you never listen to me / i am worried about my mother
i am nervous about the test / i feel anxious about work / this food is awful / what a terrible day / i have had enough

-0.8 0.6
i am angry / you make me so angry / i am so scared right now / i hate this place / that is so unfair
something is wrong here / leave me alone / stop lying to me / i am afraid of the dark / yuck that is disgusting

-0.9 0.9
i am so angry with you / i am furious about this / get out of my house / get out of here now / stop it right now
how could you do this to me / this makes me so mad / we are in danger / call the police now / help me please
"""


def _parse(tagged: str) -> tuple[Line, ...]:
    lines: list[Line] = []
    for block in tagged.strip().split("\n\n"):
        head, *rows = block.split("\n")
        valence, arousal = (float(x) for x in head.split())
        lines += [Line(text.strip(), valence, arousal) for row in rows for text in row.split("/")]
    return tuple(lines)


LINES: Final = _parse(_TAGGED)
SMALL_TALK: Final = tuple(line for line in LINES if (line.valence, line.arousal) == (0.05, 0.0))


def choose_line(
    rng: np.random.Generator,
    valence: float,
    arousal: float,
    *,
    spoken: Collection[str] = (),
    lines: Sequence[Line] = LINES,
    vagueness: float = 0.22,
) -> Line:
    """A sentence that suits the feeling: the likelier the nearer its tag, on a scale of `vagueness`.

    Sentences in `spoken` (the last few said) are avoided while there are others.
    """
    left = [line for line in lines if line.text not in spoken] or list(lines)
    far = np.array([(line.valence - valence) ** 2 + (line.arousal - arousal) ** 2 for line in left])
    weight = np.exp(-(far - far.min()) / (2 * vagueness**2))
    return left[int(rng.choice(len(left), p=weight / weight.sum()))]


def vocabulary() -> frozenset[str]:
    """Every word that a performer can say."""
    return frozenset(word for line in LINES for word in line.text.split())
