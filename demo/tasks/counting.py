"""Long answers that have exactly one right text: counting, times tables, the alphabet, days, months, numbered lines.

Whoever tests streaming, stop strings or a failover in the middle of an answer knows every token in advance.
"""

from random import Random

from demo.conversation import Conversation, exchange
from demo.split import Language, Phrases, Split, draw

LARGEST = 200
_ASK = {
    "count": {
        Language.EN: Phrases(
            ("Count from {a} to {b}.", "count from {a} to {b}", "Please count from {a} to {b}", "Count {a} to {b}", "Count: {a} to {b}",
             "Can you count from {a} to {b}?", "Write the numbers from {a} to {b}.", "List the numbers {a} to {b}", "Numbers from {a} to {b}"),
            ("Could you count from {a} to {b}?", "Give me the numbers from {a} to {b}."),
        ),
        Language.ZH: Phrases(
            ("从{a}数到{b}。", "从 {a} 数到 {b}", "请从{a}数到{b}", "数数，从{a}到{b}", "写出{a}到{b}的数字", "从{a}到{b}数数", "你能从{a}数到{b}吗？"),
            ("请写出从{a}到{b}的数字。", "帮我从{a}数到{b}。"),
        ),
    },
    "down": {
        Language.EN: Phrases(("Count down from {a} to {b}.", "count down from {a} to {b}", "Count backwards from {a} to {b}"), ("Please count down from {a} to {b}",)),
        Language.ZH: Phrases(("从{a}倒数到{b}。", "从 {a} 倒数到 {b}", "倒数，从{a}到{b}"), ("请从{a}倒数到{b}",)),
    },
    "table": {
        Language.EN: Phrases(
            ("Times table of {a}", "Write the times table of {a}.", "Show me the {a} times table", "Multiplication table for {a}", "Give me the times table for {a}."),
            ("Please write the times table of {a}.",),
        ),
        Language.ZH: Phrases(("{a}的乘法表", "写出{a}的乘法表。", "给我{a}的乘法表", "{a} 的乘法口诀"), ("请写出{a}的乘法表。",)),
    },
    "lines": {
        Language.EN: Phrases(("Write {a} lines.", "write {a} lines", "Print {a} lines", "Give me {a} lines of text.", "Please write {a} lines"), ("Can you write {a} lines?",)),
        Language.ZH: Phrases(("写{a}行。", "写 {a} 行", "请写{a}行", "输出{a}行", "给我{a}行文字"), ("请输出{a}行",)),
    },
    "alphabet": {
        Language.EN: Phrases(("Say the alphabet.", "Write the alphabet", "the alphabet please", "Recite the alphabet.", "alphabet", "What is the alphabet?"), ("Can you say the alphabet?",)),
        Language.ZH: Phrases(("写出字母表。", "背字母表", "字母表", "英文字母有哪些？", "说出字母表"), ("请写出字母表",)),
    },
    "days": {
        Language.EN: Phrases(("List the days of the week.", "days of the week", "What are the days of the week?", "Name the days of the week", "Say the days of the week."), ("Tell me the days of the week.",)),
        Language.ZH: Phrases(("一周有哪几天？", "写出一周的每一天。", "列出星期", "一个星期有哪些天？", "说出一周七天"), ("请列出一周的每一天。",)),
    },
    "months": {
        Language.EN: Phrases(("List the months of the year.", "months of the year", "What are the months?", "Name the months", "Say the months of the year."), ("Tell me the months of the year.",)),
        Language.ZH: Phrases(("一年有哪几个月？", "写出一年的月份。", "列出月份", "一年有哪些月？", "说出十二个月"), ("请列出所有月份。",)),
    },
}
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
_KINDS, _WEIGHTS = tuple(_ASK), (12, 2, 2, 3, 1, 1, 1)


def make(rng: Random, language: Language, split: Split) -> Conversation:
    """One long answer. There are few tables and lists, so for them only the template is held out."""
    kind = rng.choices(_KINDS, _WEIGHTS)[0]
    if kind in _FIXED:
        return ask(kind, (), rng, language, split)
    if kind == "table":
        return ask(kind, (rng.randint(1, 12),), rng, language, split)
    return ask(kind, tuple(int(n) for n in draw(lambda: _numbers(kind, rng), split).split()), rng, language, split)


def ask(kind: str, numbers: tuple[int, ...], rng: Random, language: Language, split: Split) -> Conversation:
    """One exchange about given numbers."""
    question = _ASK[kind][language].pick(rng, split).format(**dict(zip("ab", numbers, strict=False)))
    value = "" if kind == "table" else " ".join(map(str, numbers))
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
    """Short ranges mostly; now and then one that fills a screen."""
    if kind == "lines":
        return f"{rng.randint(1, 20) if rng.random() < 0.8 else rng.randint(1, 60)}"
    span = rng.choices((12, 40, 120), (70, 24, 6))[0]
    first = 1 if rng.random() < 0.3 else rng.randint(0, LARGEST - 1)
    last = min(LARGEST, first + rng.randint(1, span))
    if rng.random() < 0.15:
        last = min(LARGEST, max(first + 1, -(-last // 10) * 10))
    return f"{first} {last}" if kind == "count" else f"{last} {first}"
