"""Doing something to the user's own words: repeat, reverse, spell, write in capitals, first and last word.

The words to repeat are random, so the model must copy and cannot remember.
"""

from random import Random

from demo import words
from demo.conversation import Conversation, exchange
from demo.split import Language, Phrases, Split, draw

_ASK = {
    "echo": {
        Language.EN: Phrases(
            ("Repeat after me: {x}", "Repeat: {x}", "Echo: {x}", "echo {x}", "Please repeat: {x}", "Say this: {x}", "Please say: {x}",
             "Repeat these words: {x}", "Repeat exactly: {x}", "Copy this: {x}"),
            ("Please repeat after me: {x}", "Say exactly this: {x}"),
        ),
        Language.ZH: Phrases(
            ("请重复：{x}", "重复：{x}", "跟我说：{x}", "请跟我说：{x}", "复述：{x}", "请说：{x}", "重复这句话：{x}", "说：{x}"),
            ("请重复这句话：{x}", "请复述：{x}"),
        ),
    },
    "reverse": {
        Language.EN: Phrases(
            ("Reverse this list: {x}", "Reverse: {x}", "Say this backwards: {x}", "Write this in reverse order: {x}", "Turn this list around: {x}"),
            ("Please reverse this list: {x}",),
        ),
        Language.ZH: Phrases(("倒过来：{x}", "把这些倒过来：{x}", "倒序写：{x}", "反过来说：{x}", "把列表反过来：{x}"), ("请倒过来：{x}",)),
    },
    "spell": {
        Language.EN: Phrases(
            ("Spell {x}", "Spell the word {x}.", "How do you spell {x}?", "Please spell {x}", "spell: {x}", "Can you spell {x}?"),
            ("How is {x} spelled?",),
        ),
        Language.ZH: Phrases(("拼写 {x}", "请拼写 {x}", "{x} 怎么拼写？", "怎么拼 {x}？", "拼出 {x}"), ("请拼出 {x}",)),
    },
    "upper": {
        Language.EN: Phrases(
            ("Write {x} in upper case.", "Upper case: {x}", "Write {x} in capitals", "Make {x} upper case", "uppercase {x}", "Capitalize {x}"),
            ("Put {x} in upper case.",),
        ),
        Language.ZH: Phrases(("把 {x} 变成大写", "用大写写 {x}", "{x} 的大写是什么？", "大写：{x}", "请把 {x} 大写"), ("请用大写写 {x}",)),
    },
    "first": {
        Language.EN: Phrases(("What is the first word of: {x}", "First word: {x}", "Say the first word of this: {x}"), ("Give me the first word of: {x}",)),
        Language.ZH: Phrases(("第一个词是什么：{x}", "第一个词：{x}"), ("请说第一个词：{x}",)),
    },
    "last": {
        Language.EN: Phrases(("What is the last word of: {x}", "Last word: {x}", "Say the last word of this: {x}"), ("Give me the last word of: {x}",)),
        Language.ZH: Phrases(("最后一个词是什么：{x}", "最后一个词：{x}"), ("请说最后一个词：{x}",)),
    },
}
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
    return text.capitalize() if rng.random() < 0.2 else text


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
