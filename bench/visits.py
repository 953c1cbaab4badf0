"""What the soak asks: seeded requests of every kind, and what must come of each. Pure.

A few hundred questions are asked alone first; their answers are known then. A visit is one of them asked again, in
company, in one of the ways in which clients behave and misbehave.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

NAME = "demo"
# A request for more is refused. So small that the prefix cache is soon full and gives up what is old.
CONTEXT = 256
LONGEST_ANSWER = 24
SYSTEM = "Your name is {} {}. Answer in the language of the question, and say so when you do not know the answer. " * 2
WORDS = ("boat", "river", "moon", "garden", "stone", "bird", "cloud", "letter", "night", "road")
STOPS = (", ", "3", "e", " a", "。", "the")
# A client that leaves does so within this time, in the middle of anything.
LEAVES_WITHIN_S = 0.15

Body = dict[str, Any]


class Kind(StrEnum):
    PLAIN = "plain"
    WHOLE = "whole"
    RESUMED = "resumed"
    LEAVING = "leaving"
    INVALID = "invalid"


# How often each comes.
SHARES = {Kind.PLAIN: 50, Kind.WHOLE: 15, Kind.RESUMED: 10, Kind.LEAVING: 18, Kind.INVALID: 7}


@dataclass(frozen=True, slots=True)
class Part:
    token_ids: tuple[int, ...]
    text: str


@dataclass(slots=True)
class Answer:
    """What came, part by part; `reason` is None while the answer is not over."""

    parts: list[Part] = field(default_factory=list)
    reason: str | None = None

    @property
    def token_ids(self) -> tuple[int, ...]:
        return tuple(token for part in self.parts for token in part.token_ids)

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts)

    def take(self, msg: Mapping[str, Any]) -> None:
        """A line of a stream, or a whole answer."""
        self.parts.append(Part(tuple(msg["token_ids"]), msg["content"] or ""))
        self.reason = msg["finish_reason"]

    def after(self, parts: int) -> Answer:
        return Answer(self.parts[parts:], self.reason)

    def begins_with(self, other: Answer) -> bool:
        """Whether `other` is what came of this one until its client left."""
        return self.parts[: len(other.parts)] == other.parts and other.reason in (None, self.reason)

    def says_what(self, other: Answer) -> bool:
        """Whether both are the same to a reader, in however many parts they came."""
        mine, others = ((answer.token_ids, answer.text, answer.reason) for answer in (self, other))
        return mine == others


@dataclass(frozen=True, slots=True)
class Visit:
    """`expected` is the whole answer, of which one who leaves gets the beginning; `status` that of the HTTP answer."""

    kind: Kind
    body: Body
    expected: Answer = field(default_factory=Answer)
    status: int = 200
    leaves_after_s: float | None = None


def question(chance: random.Random) -> Body:
    """A request whose answer depends on nothing but itself: greedy, or sampled with a seed."""
    number, other = chance.randrange(1, 90), chance.randrange(1, 90)
    words = " ".join(chance.choice(WORDS) for _ in range(chance.randrange(1, 12)))
    asked = chance.choice(
        (
            f"Count from {number} to {number + other}.",
            f"What is {number} + {other}?",
            f"Repeat after me: {words}",
            f"Reverse the words: {words}",
            f"从{number}数到{number + other}。",
            "给我介绍一下大型语言模型。",
            "Who are you?",
        )
    )
    messages = [{"role": "user", "content": asked}]
    if chance.random() < 0.3:
        messages.insert(0, {"role": "system", "content": SYSTEM.format(*chance.sample(WORDS, 4))})
    options: Body = {"max_new_tokens": chance.randint(1, LONGEST_ANSWER)}
    if chance.random() < 0.5:
        options |= {
            "temperature": chance.choice((0.5, 1.0, 2.0)),
            "seed": chance.randrange(2**32),
            "top_p": chance.choice((1.0, 0.9)),
            "top_k": chance.choice((0, 40)),
            "min_p": chance.choice((0.0, 0.05)),
            "frequency_penalty": chance.choice((0.0, 0.5)),
        }
    if chance.random() < 0.3:
        options |= {"stop": chance.sample(STOPS, chance.randint(1, 3)), "repetition_penalty": chance.choice((1.0, 1.2))}
    return {"model": NAME, "messages": messages, "options": options, "stream": True}


def draw(chance: random.Random, known: Sequence[tuple[Body, Answer]]) -> Visit:
    """A visit, to one of the questions whose answers are known."""
    body, answer = chance.choice(known)
    kind = chance.choices([*SHARES], [*SHARES.values()])[0]
    match kind:
        case Kind.WHOLE:
            return Visit(kind, {**body, "stream": False}, answer)
        case Kind.RESUMED:
            # Whoever has the text that came last, without tokens, lacks nothing and does not ask.
            places = [i for i in range(len(answer.parts)) if all(part.token_ids for part in answer.parts[:i])]
            place = chance.choice(places)
            delivered = [token for part in answer.parts[:place] for token in part.token_ids]
            return Visit(kind, {**body, "resume": {"token_ids": delivered}}, answer.after(place))
        case Kind.LEAVING:
            return Visit(kind, body, answer, leaves_after_s=chance.uniform(0, LEAVES_WITHIN_S))
        case Kind.INVALID:
            change, status = chance.choice(INVALID)
            return Visit(kind, {**body, **change}, status=status)
        case Kind.PLAIN:
            return Visit(kind, body, answer)


INVALID: Sequence[tuple[Body, int]] = (
    ({"options": {"temperature": 9}}, 400),
    ({"options": {"max_new_tokens": 0}}, 400),
    ({"options": {"tempreature": 1}}, 400),
    ({"messages": []}, 400),
    ({"messages": [{"role": "user", "content": "boat " * CONTEXT}]}, 400),
    ({"resume": {"token_ids": [2**30]}}, 400),
    ({"model": "demon"}, 404),
)
