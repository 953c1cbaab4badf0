"""Remembering what the user said some turns ago: name, favourite colour, lucky number, city.

Small talk stands between telling and asking, so the answer has to come from further back.
"""

from dataclasses import dataclass
from random import Random

from demo import words
from demo.conversation import Conversation, Message
from demo.split import Language, Phrases, Split, draw
from demo.tasks import facts


@dataclass(frozen=True)
class _Topic:
    tell: Phrases
    noted: str
    ask: Phrases
    answer: str


_TOPICS = {
    Language.EN: {
        "name": _Topic(
            Phrases(("My name is {x}.", "I am {x}", "I'm {x}.", "Hello, my name is {x}.", "Call me {x}.", "Hi, I am {x}", "my name is {x}"), ("Hello, I am {x}.",)),
            "Nice to meet you, {x}.",
            Phrases(("What is my name?", "Who am I?", "Do you remember my name?", "what's my name", "Say my name.", "What am I called?"), ("Can you tell me my name?",)),
            "Your name is {x}.",
        ),
        "colour": _Topic(
            Phrases(("My favourite colour is {x}.", "I like {x} best.", "My favorite color is {x}.", "my favourite colour is {x}"), ("I think my favourite colour is {x}.",)),
            "I will remember that you like {x}.",
            Phrases(("What is my favourite colour?", "Which colour do I like?", "What is my favorite color?", "Do you remember my favourite colour?"), ("Can you tell me my favourite colour?",)),
            "Your favourite colour is {x}.",
        ),
        "number": _Topic(
            Phrases(("My lucky number is {x}.", "Remember the number {x}.", "The number is {x}", "my number is {x}"), ("Please remember the number {x}.",)),
            "I will remember the number {x}.",
            Phrases(("What is my lucky number?", "What was the number?", "What is my number?", "Which number did I tell you?"), ("Can you tell me the number?",)),
            "The number is {x}.",
        ),
        "city": _Topic(
            Phrases(("I live in {x}.", "I am from {x}.", "My home is in {x}.", "I come from {x}"), ("My city is {x}.",)),
            "I will remember that you live in {x}.",
            Phrases(("Where do I live?", "Which city am I from?", "Where am I from?", "Do you remember where I live?"), ("Can you tell me where I live?",)),
            "You live in {x}.",
        ),
    },
    Language.ZH: {
        "name": _Topic(
            Phrases(("我叫{x}。", "我的名字是{x}。", "我是{x}。", "你好，我叫{x}。", "叫我{x}吧。", "我的名字叫{x}"), ("你好，我是{x}。",)),
            "很高兴认识你，{x}。",
            Phrases(("我叫什么名字？", "我是谁？", "你记得我的名字吗？", "我的名字是什么？", "说出我的名字。"), ("能告诉我我的名字吗？",)),
            "你的名字是{x}。",
        ),
        "colour": _Topic(
            Phrases(("我最喜欢的颜色是{x}。", "我最喜欢{x}。", "我喜欢的颜色是{x}"), ("我想我最喜欢的颜色是{x}。",)),
            "我会记住你喜欢{x}。",
            Phrases(("我最喜欢什么颜色？", "我最喜欢的颜色是什么？", "你记得我喜欢什么颜色吗？"), ("能告诉我我喜欢什么颜色吗？",)),
            "你最喜欢的颜色是{x}。",
        ),
        "number": _Topic(
            Phrases(("我的幸运数字是{x}。", "记住数字{x}。", "数字是{x}", "我的数字是{x}"), ("请记住数字{x}。",)),
            "我会记住数字{x}。",
            Phrases(("我的幸运数字是什么？", "数字是多少？", "我的数字是多少？", "我告诉你的数字是什么？"), ("能告诉我那个数字吗？",)),
            "数字是{x}。",
        ),
        "city": _Topic(
            Phrases(("我住在{x}。", "我来自{x}。", "我的家在{x}。", "我是{x}人。"), ("我的城市是{x}。",)),
            "我会记住你住在{x}。",
            Phrases(("我住在哪里？", "我来自哪个城市？", "我是哪里人？", "你记得我住在哪里吗？"), ("能告诉我我住在哪里吗？",)),
            "你住在{x}。",
        ),
    },
}


def make(rng: Random, language: Language, split: Split) -> Conversation:
    """Tells one or two things, talks about something else, then asks for one of them."""
    topics = rng.sample(sorted(_TOPICS[language]), rng.choice((1, 1, 2)))
    values = {topic: draw(lambda topic=topic: _value(topic, rng, language), split) for topic in topics}  # type: ignore[misc]
    messages: list[Message] = []
    for topic, value in values.items():
        messages += _told(topic, value, rng, language, split)
        for _ in range(rng.choice((0, 0, 1, 1, 2))):
            messages += facts.make_small_talk(rng, language, split).messages
    asked = rng.choice(topics)
    messages += _asked(asked, values[asked], rng, language, split)
    return Conversation("memory", tuple(messages), values[asked])


def _told(topic: str, value: str, rng: Random, language: Language, split: Split) -> tuple[Message, Message]:
    words_ = _TOPICS[language][topic]
    return Message("user", words_.tell.pick(rng, split).format(x=value)), Message("assistant", words_.noted.format(x=value))


def _asked(topic: str, value: str, rng: Random, language: Language, split: Split) -> tuple[Message, Message]:
    words_ = _TOPICS[language][topic]
    return Message("user", words_.ask.pick(rng, split)), Message("assistant", words_.answer.format(x=value))


def _value(topic: str, rng: Random, language: Language) -> str:
    if topic == "name":
        return words.name(rng, language)
    if topic == "number":
        return str(rng.randint(1, 999))
    if topic == "city":
        return words.city(rng, language)
    return rng.choice(words.COLOURS[language])
