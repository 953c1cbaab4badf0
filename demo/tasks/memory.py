"""Remembering what the user said some turns ago: name, favourite colour, lucky number, city.

Small talk stands between telling and asking, so the answer has to come from further back.
"""

from functools import partial
from random import Random

from demo import texts, words
from demo.conversation import Conversation, Message
from demo.split import Language, Split, draw
from demo.tasks import facts

_TELL = texts.phrases("memory_tell")
_ASK = texts.phrases("memory_ask")
_NOTED = {
    Language.EN: {
        "name": "Nice to meet you, {x}.",
        "colour": "I will remember that you like {x}.",
        "number": "I will remember the number {x}.",
        "city": "I will remember that you live in {x}.",
    },
    Language.ZH: {
        "name": "很高兴认识你，{x}。",
        "colour": "我会记住你喜欢{x}。",
        "number": "我会记住数字{x}。",
        "city": "我会记住你住在{x}。",
    },
}
_ANSWER = {
    Language.EN: {
        "name": "Your name is {x}.",
        "colour": "Your favourite colour is {x}.",
        "number": "The number is {x}.",
        "city": "You live in {x}.",
    },
    Language.ZH: {
        "name": "你的名字是{x}。",
        "colour": "你最喜欢的颜色是{x}。",
        "number": "数字是{x}。",
        "city": "你住在{x}。",
    },
}


def make(rng: Random, language: Language, split: Split) -> Conversation:
    """Tells one or two things, talks about something else, then asks for one of them."""
    topics = rng.sample(sorted(_TELL), rng.choice((1, 1, 2)))
    values = {topic: _drawn(topic, rng, language, split) for topic in topics}
    messages: list[Message] = []
    for topic, value in values.items():
        messages += _told(topic, value, rng, language, split)
        for _ in range(rng.choice((0, 0, 1, 1, 2))):
            messages += facts.make_small_talk(rng, language, split).messages
    asked = rng.choice(topics)
    messages += _asked(asked, values[asked], rng, language, split)
    return Conversation("memory", tuple(messages), values[asked])


def _drawn(topic: str, rng: Random, language: Language, split: Split) -> str:
    """There are only a dozen colours, so none is held out."""
    if topic == "colour":
        return rng.choice(words.COLOURS[language])
    return draw(partial(_value, topic, rng, language), split, words.LISTED)


def _told(topic: str, value: str, rng: Random, language: Language, split: Split) -> tuple[Message, Message]:
    question = _TELL[topic][language].pick(rng, split).format(x=value)
    return Message("user", question), Message("assistant", _NOTED[language][topic].format(x=value))


def _asked(topic: str, value: str, rng: Random, language: Language, split: Split) -> tuple[Message, Message]:
    question = _ASK[topic][language].pick(rng, split)
    return Message("user", question), Message("assistant", _ANSWER[language][topic].format(x=value))


def _value(topic: str, rng: Random, language: Language) -> str:
    if topic == "name":
        return words.name(rng, language)
    if topic == "number":
        return str(rng.randint(1, 999))
    return words.city(rng, language)
