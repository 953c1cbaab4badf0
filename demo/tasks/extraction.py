"""JSON from a sentence, for four small schemas; the values are drawn, so they have to be copied."""

import json
from collections.abc import Callable
from random import Random

from demo import texts, words
from demo.conversation import Conversation, exchange
from demo.split import Language, Split, draw

_ASK = texts.phrases("extraction")["ask"]
_SENTENCES = texts.phrases("extraction_sentence")


def make(rng: Random, language: Language, split: Split) -> Conversation:
    """One sentence and the object it holds."""
    schema = rng.choice(sorted(_SENTENCES))
    first, second = schema.split("_and_")
    a, b = draw(lambda: f"{_value(first, rng, language)}|{_value(second, rng, language)}", split).split("|")
    text = _SENTENCES[schema][language].pick(rng, split).format(a=a, b=b)
    question = _ASK[language].pick(rng, split).format(keys=schema.replace("_", " "), text=text)
    found = {first: a, second: int(b) if b.isdigit() else b}
    return exchange("json", question, json.dumps(found, ensure_ascii=False), f"{a}|{b}")


def _value(key: str, rng: Random, language: Language) -> str:
    makers: dict[str, Callable[[], str]] = {
        "name": lambda: words.name(rng, language),
        "age": lambda: str(rng.randint(1, 99)),
        "quantity": lambda: str(rng.randint(1, 99)),
        "item": lambda: _item(rng, language),
    }
    return makers.get(key, lambda: words.city(rng, language))()


def _item(rng: Random, language: Language) -> str:
    return rng.choice(words.WORDS) if language is Language.EN else words.random_han(rng, rng.randint(1, 2))
