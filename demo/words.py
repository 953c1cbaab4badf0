"""Words, names and places the tasks draw from, and random words that force copying instead of memory."""

from random import Random

from demo import texts
from demo.split import Language

WORDS = texts.items("words")
HAN = texts.items("han")
NAMES = texts.by_language("names")
CITIES = texts.by_language("cities")
COLOURS = texts.by_language("colours")

LISTED = frozenset(word for known in (NAMES, CITIES, COLOURS) for language in Language for word in known[language])

_ONSETS = "bdfgklmnprstvz"
_VOWELS = "aeiou"


def random_word(rng: Random, syllables: int) -> str:
    """A word nobody has seen, made of syllables the tokenizer knows."""
    return "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(syllables))


def random_han(rng: Random, length: int) -> str:
    """A string of common characters without meaning."""
    return "".join(rng.choice(HAN) for _ in range(length))


def name(rng: Random, language: Language) -> str:
    """A person's name; half of them made up, so that the model has to read the conversation."""
    return _known_or_new(NAMES[language], rng, language)


def city(rng: Random, language: Language) -> str:
    """A city; half of them made up, for the same reason."""
    return _known_or_new(CITIES[language], rng, language)


def _known_or_new(known: tuple[str, ...], rng: Random, language: Language) -> str:
    if rng.random() < 0.5:
        return rng.choice(known)
    if language is Language.ZH:
        return random_han(rng, 2)
    return random_word(rng, rng.randint(2, 3)).capitalize()
