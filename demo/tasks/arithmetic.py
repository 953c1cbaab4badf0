"""Small sums: plus and minus up to two digits, times up to 12 x 12. The answer repeats the sum, then gives the result.

Asked to think step by step, the model first works an addition out digit by digit, so that the reasoning path has
something to show.
"""

from random import Random

from demo import texts
from demo.conversation import Conversation, exchange
from demo.split import Language, Split, draw

_ASK = texts.phrases("arithmetic")["ask"]
_THINK = texts.by_language("think")
_SPOKEN: dict[Language, dict[str, tuple[str, ...]]] = {
    Language.EN: {"+": (" plus ",), "-": (" minus ",), "x": (" times ",)},
    Language.ZH: {"+": ("加",), "-": ("减",), "x": ("乘", "乘以")},
}
_WRITTEN = {"+": (" + ", "+"), "-": (" - ", "-"), "x": (" x ", " * ", "*", "x", " × ")}


def make(rng: Random, language: Language, split: Split) -> Conversation:
    """One sum; the operator decides how large its numbers are."""
    a, operator, b = draw(lambda: _sum(rng), split).split()
    return ask(int(a), operator, int(b), rng, language, split)


def ask(a: int, operator: str, b: int, rng: Random, language: Language, split: Split) -> Conversation:
    """One exchange about a given sum."""
    signs = _SPOKEN[language][operator] if rng.random() < 0.25 else _WRITTEN[operator]
    question = _ASK[language].pick(rng, split).format(sum=f"{a}{rng.choice(signs)}{b}")
    value = f"{a} {operator} {b}"
    answer = f"{value} = {result(a, operator, b)}"
    if operator == "+" and rng.random() < 0.25:
        return exchange("arithmetic", rng.choice(_THINK[language]) + question, answer, value, think(a, b))
    return exchange("arithmetic", question, answer, value)


def result(a: int, operator: str, b: int) -> int:
    return {"+": a + b, "-": a - b, "x": a * b}[operator]


def think(a: int, b: int) -> str:
    """Addition by columns, ones first, as it is taught at school."""
    ones = a % 10 + b % 10
    if ones < 10:
        return f"{a % 10} + {b % 10} = {ones}\n{a // 10} + {b // 10} = {a // 10 + b // 10}"
    return f"{a % 10} + {b % 10} = {ones}, carry 1\n{a // 10} + {b // 10} + 1 = {a // 10 + b // 10 + 1}"


def _sum(rng: Random) -> str:
    operator = rng.choice("+++--x")
    if operator == "x":
        return f"{rng.randint(0, 12)} x {rng.randint(0, 12)}"
    a, b = _number(rng), _number(rng)
    return f"{max(a, b)} - {min(a, b)}" if operator == "-" else f"{a} + {b}"


def _number(rng: Random) -> int:
    """Mostly two digits: there are a hundred times more such sums to learn."""
    return rng.randint(10, 99) if rng.random() < 0.85 else rng.randint(0, 9)
