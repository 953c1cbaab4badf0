"""JSON from a sentence, for four small schemas; the values are drawn, so they have to be copied."""

import json
from collections.abc import Callable
from random import Random

from demo import words
from demo.conversation import Conversation, exchange
from demo.split import Language, Phrases, Split, draw

_ASK = {
    Language.EN: Phrases(
        ("Extract {keys} as JSON: {text}", "Give me {keys} as JSON: {text}", "JSON with {keys}: {text}", "Return {keys} as JSON. {text}"),
        ("Please extract {keys} as JSON: {text}",),
    ),
    Language.ZH: Phrases(("用 JSON 提取 {keys}：{text}", "提取 {keys}，用 JSON 回答：{text}", "JSON，{keys}：{text}"), ("请用 JSON 提取 {keys}：{text}",)),
}
_SENTENCES = {
    "name and age": {
        Language.EN: Phrases(("{a} is {b} years old.", "I am {a} and I am {b} years old.", "My friend {a} is {b}."), ("This is {a}, {b} years old.",)),
        Language.ZH: Phrases(("{a}今年{b}岁。", "我叫{a}，我{b}岁。", "我的朋友{a}{b}岁了。"), ("这是{a}，{b}岁。",)),
    },
    "item and quantity": {
        Language.EN: Phrases(("I want {b} of the {a}.", "Please order {b} x {a}.", "We need {a}, {b} pieces."), ("I would like {a}, {b} pieces.",)),
        Language.ZH: Phrases(("我要{b}个{a}。", "请订{b}个{a}。", "我们需要{a}，{b}个。"), ("我想买{b}个{a}。",)),
    },
    "from and to": {
        Language.EN: Phrases(("I travel from {a} to {b}.", "A ticket from {a} to {b}, please.", "We go from {a} to {b} tomorrow."), ("The train goes from {a} to {b}.",)),
        Language.ZH: Phrases(("我从{a}去{b}。", "一张从{a}到{b}的票。", "明天我们从{a}到{b}。"), ("火车从{a}开到{b}。",)),
    },
    "name and city": {
        Language.EN: Phrases(("{a} lives in {b}.", "{a} is from {b}.", "My name is {a} and I live in {b}."), ("This is {a} from {b}.",)),
        Language.ZH: Phrases(("{a}住在{b}。", "{a}来自{b}。", "我叫{a}，我住在{b}。"), ("这是来自{b}的{a}。",)),
    },
}


def make(rng: Random, language: Language, split: Split) -> Conversation:
    """One sentence and the object it holds."""
    schema = rng.choice(sorted(_SENTENCES))
    first, second = schema.split(" and ")
    a, b = draw(lambda: f"{_value(first, rng, language)}|{_value(second, rng, language)}", split).split("|")
    text = _SENTENCES[schema][language].pick(rng, split).format(a=a, b=b)
    question = _ASK[language].pick(rng, split).format(keys=schema, text=text)
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
