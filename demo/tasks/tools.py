"""Calling tools: the call, the reply of the tool, the answer made from it, and the case where no tool fits."""

import json
from random import Random

from demo import texts, words
from demo.conversation import Conversation, Message, Tool, ToolCall
from demo.split import Language, Split, draw

TOOLS = {
    "calculator": Tool("calculator", "Work out a sum", ("expression",)),
    "get_weather": Tool("get_weather", "Get the weather of a city", ("city",)),
    "get_time": Tool("get_time", "Get the time in a city", ("city",)),
}
_ASK = texts.phrases("tools")
_WEATHER = texts.by_language("weather")
_NO_TOOL = {Language.EN: "I have no tool for that.", Language.ZH: "我没有可以做这件事的工具。"}


def make(rng: Random, language: Language, split: Split) -> Conversation:
    """A question with some tools on offer; usually one of them fits."""
    wanted = rng.choice(sorted(TOOLS))
    value = draw(lambda: _value(wanted, rng, language), split, words.LISTED)
    question = Message("user", _ASK[wanted][language].pick(rng, split).format(x=value))
    others = [name for name in sorted(TOOLS) if name != wanted]
    if wanted != "calculator" and rng.random() < 0.25:
        offered = rng.sample(others, rng.randint(1, 2))
        return _conversation("no_tool", (question, Message("assistant", _NO_TOOL[language])), value, offered)
    offered = _shuffled([wanted, *rng.sample(others, rng.choice((0, 1, 2, 2)))], rng)
    call = Message("assistant", "", calls=(ToolCall(wanted, {TOOLS[wanted].parameters[0]: value}),))
    if rng.random() < 0.4:
        return _conversation("tool_call", (question, call), value, offered)
    reply, answer = _reply(wanted, value, rng, language)
    return _conversation(
        "tool_answer", (question, call, Message("tool", reply), Message("assistant", answer)), value, offered
    )


def _conversation(task: str, messages: tuple[Message, ...], value: str, offered: list[str]) -> Conversation:
    return Conversation(task, messages, value, tuple(TOOLS[name] for name in offered))


def _shuffled(names: list[str], rng: Random) -> list[str]:
    return rng.sample(names, len(names))


def _value(tool: str, rng: Random, language: Language) -> str:
    if tool != "calculator":
        return words.city(rng, language)
    return f"{rng.randint(1, 9999)} {rng.choice('+-*')} {rng.randint(1, 9999)}"


def _reply(tool: str, value: str, rng: Random, language: Language) -> tuple[str, str]:
    """What the tool says, and the sentence made from it."""
    english = language is Language.EN
    if tool == "calculator":
        number = rng.randint(0, 99999)
        return json.dumps({"result": number}), f"The result is {number}." if english else f"结果是{number}。"
    if tool == "get_time":
        time = f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}"
        return json.dumps({"time": time}), f"It is {time} in {value}." if english else f"{value}现在是{time}。"
    weather, degrees = rng.choice(_WEATHER[language]), rng.randint(0, 35)
    reply = json.dumps({"weather": weather, "temperature": degrees}, ensure_ascii=False)
    return (
        reply,
        f"It is {weather} in {value}, {degrees} degrees." if english else f"{value}今天{weather}，{degrees}度。",
    )
