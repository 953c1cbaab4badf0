"""Doing something to the user's own words: repeat, reverse, spell, write in capitals, first and last word.

The words to repeat are random, so the model must copy and cannot remember.
"""

from random import Random

from demo import texts, words
from demo.conversation import Conversation, exchange
from demo.split import Language, Split, draw

_ASK = texts.phrases("transform")
_KINDS, _WEIGHTS = ("echo", "reverse", "spell", "upper", "first", "last"), (8, 3, 2, 1, 1, 1)


def make(rng: Random, language: Language, split: Split) -> Conversation:
    """One transformation. Words to spell are known words, so for them only the template is held out."""
    kind = rng.choices(_KINDS, _WEIGHTS)[0]
    if kind in ("spell", "upper"):
        return ask(kind, rng.choice(words.WORDS), rng, language, split)
    return ask(kind, draw(lambda: _text(kind, rng, language), split), rng, language, split)


def ask(kind: str, value: str, rng: Random, language: Language, split: Split) -> Conversation:
    """One exchange about a given text."""
    question = _ASK[kind][language].pick(rng, split).format(x=value)
    return exchange(kind, question, apply(kind, value), "" if kind in ("spell", "upper") else value)


def apply(kind: str, value: str) -> str:
    """The right answer."""
    if kind == "echo":
        return value
    if kind == "spell":
        return "-".join(value)
    if kind == "upper":
        return value.upper()
    items = value.split()
    return {"reverse": " ".join(reversed(items)), "first": items[0], "last": items[-1]}[kind]


def _text(kind: str, rng: Random, language: Language) -> str:
    if kind == "reverse":
        return " ".join(_item(rng, language) for _ in range(rng.randint(2, 5)))
    if kind in ("first", "last"):
        return " ".join(_word(rng, language) for _ in range(rng.randint(2, 5)))
    if language is Language.ZH and rng.random() < 0.7:
        return words.random_han(rng, rng.randint(1, 8))
    if rng.random() < 0.15:
        return " ".join(str(rng.randint(0, 999)) for _ in range(rng.randint(1, 3)))
    text = " ".join(_word(rng, Language.EN) for _ in range(rng.randint(1, 6)))
    return _sentence(text, rng) if rng.random() < 0.3 else text


def _sentence(text: str, rng: Random) -> str:
    """With a capital, a comma and an end, as people write."""
    if rng.random() < 0.5:
        text = text.replace(" ", ", ", 1)
    return text.capitalize() + rng.choice(("", "!", ".", "?"))


def _word(rng: Random, language: Language) -> str:
    if language is Language.ZH:
        return words.random_han(rng, rng.randint(1, 2))
    return words.random_word(rng, rng.randint(1, 3)) if rng.random() < 0.3 else rng.choice(words.WORDS)


def _item(rng: Random, language: Language) -> str:
    """Something short: a digit, a letter, one character or a known word."""
    kind = rng.randrange(3)
    if kind == 0:
        return str(rng.randint(0, 9))
    if language is Language.ZH:
        return rng.choice(words.HAN)
    return rng.choice("abcdefghijklmnopqrstuvwxyz") if kind == 1 else rng.choice(words.WORDS)
