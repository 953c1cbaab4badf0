"""Long answers that have exactly one right text: counting, times tables, the alphabet, days, months, numbered lines.

Whoever tests streaming, stop strings or a failover in the middle of an answer knows every token in advance.
"""

from random import Random

from demo import texts
from demo.conversation import Conversation, exchange
from demo.split import Language, Split, draw

LARGEST = 200
_ASK = texts.phrases("counting")
_FIXED = {
    "alphabet": dict.fromkeys(Language, "a b c d e f g h i j k l m n o p q r s t u v w x y z"),
    "days": {
        Language.EN: "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday",
        Language.ZH: "星期一，星期二，星期三，星期四，星期五，星期六，星期日",
    },
    "months": {
        Language.EN: "January, February, March, April, May, June, July, August, September, October, November, December",
        Language.ZH: "一月，二月，三月，四月，五月，六月，七月，八月，九月，十月，十一月，十二月",
    },
}
_KINDS, _WEIGHTS = tuple(_ASK), (12, 2, 1, 4, 1, 1, 1)


def make(rng: Random, language: Language, split: Split) -> Conversation:
    """One long answer. There are few tables, lists and numbers of lines: for them only the template is held out."""
    kind = rng.choices(_KINDS, _WEIGHTS)[0]
    if kind in _FIXED:
        return ask(kind, (), rng, language, split)
    if kind == "table":
        return ask(kind, (rng.randint(1, 12),), rng, language, split)
    if kind == "lines":
        return ask(kind, (rng.randint(1, 12) if rng.random() < 0.8 else rng.randint(1, 50),), rng, language, split)
    return ask(kind, tuple(int(n) for n in draw(lambda: _numbers(kind, rng), split).split()), rng, language, split)


def ask(kind: str, numbers: tuple[int, ...], rng: Random, language: Language, split: Split) -> Conversation:
    """One exchange about given numbers."""
    question = _ASK[kind][language].pick(rng, split).format(**dict(zip("ab", numbers, strict=False)))
    value = "" if kind in ("table", "lines") else " ".join(map(str, numbers))
    return exchange(kind, question, answer(kind, numbers, language), value)


def answer(kind: str, numbers: tuple[int, ...], language: Language) -> str:
    """The one right text."""
    if kind == "count":
        return ", ".join(str(n) for n in range(numbers[0], numbers[1] + 1))
    if kind == "down":
        return ", ".join(str(n) for n in range(numbers[0], numbers[1] - 1, -1))
    if kind == "table":
        return "\n".join(f"{numbers[0]} x {n} = {numbers[0] * n}" for n in range(1, 11))
    if kind == "lines":
        line = "line {}" if language is Language.EN else "第 {} 行"
        return "\n".join(line.format(n) for n in range(1, numbers[0] + 1))
    return _FIXED[kind][language]


def _numbers(kind: str, rng: Random) -> str:
    """Short ranges mostly, because knowing where to stop is the hard part; now and then one that fills a screen."""
    span = rng.choices((4, 12, 40, 120), (25, 45, 25, 5))[0]
    first = 1 if rng.random() < 0.3 else rng.randint(0, LARGEST - 1)
    last = min(LARGEST, first + rng.randint(1, span))
    if rng.random() < 0.15:
        last = min(LARGEST, max(first + 1, -(-last // 10) * 10))
    return f"{first} {last}" if kind == "count" else f"{last} {first}"
