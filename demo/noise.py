"""How people really type: no capitals, no full stop, a polite word, a slip of the finger.

Only questions with a fixed answer are disturbed; where the answer repeats the question, a typo would make it wrong.
"""

from random import Random

from demo import texts
from demo.split import Language

_POLITE = texts.by_language("polite")


def disturb(question: str, rng: Random) -> str:
    """The question as it might be typed; half of the time unchanged."""
    if rng.random() < 0.5:
        return question
    if rng.random() < 0.25:
        question = _with_polite_word(question, rng)
    if rng.random() < 0.3:
        question = question.lower()
    if rng.random() < 0.4:
        question = question.rstrip("?.!？。！")
    elif rng.random() < 0.1:
        question = question.rstrip("?.!？。！") + rng.choice(("?", "!", "...", "？", "。"))
    if rng.random() < 0.15:
        question = _with_typo(question, rng)
    return question


def _with_polite_word(question: str, rng: Random) -> str:
    if not question.isascii():
        return rng.choice(_POLITE[Language.ZH]) + question
    word = rng.choice(_POLITE[Language.EN])
    return word + (question[0].lower() + question[1:] if word == "Please " else question)


def _with_typo(question: str, rng: Random) -> str:
    """Swaps two letters inside a long word, so that short words keep their meaning."""
    places = [
        i
        for i in range(1, len(question) - 2)
        if question[i - 1 : i + 3].isalpha() and question[i - 1 : i + 3].isascii()
    ]
    if not places:
        return question
    i = rng.choice(places)
    return question[:i] + question[i + 1] + question[i] + question[i + 2 :]
