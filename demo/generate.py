"""Makes conversations: the i-th one of a seed is always the same, and there is no end to them, so nothing is repeated.

python -m demo.generate --count 20        prints some, to look at
"""

import argparse
from collections.abc import Callable, Iterator
from itertools import count
from random import Random

from demo.conversation import Conversation, Message, segments
from demo.split import Language, Split
from demo.tasks import arithmetic, counting, extraction, facts, memory, refusal, system, tools, transform

Task = Callable[[Random, Language, Split], Conversation]

MIX: dict[Task, int] = {
    counting.make: 32,
    arithmetic.make: 28,
    transform.make: 18,
    facts.make_fact: 9,
    refusal.make: 7,
    tools.make: 7,
    memory.make: 6,
    extraction.make: 5,
    system.make: 5,
    facts.make_small_talk: 4,
}
_CHAINED: dict[Task, int] = {
    task: share for task, share in MIX.items() if task not in (counting.make, memory.make, tools.make, system.make)
}
CHAIN_SHARE = 0.12
NEUTRAL_SHARE = 0.15


def conversation(seed: int, index: int) -> Conversation:
    """The training conversation with this number."""
    rng = Random(f"{seed}/{index}")
    made = _chain(rng) if rng.random() < CHAIN_SHARE else _single(MIX, rng)
    if made.messages[0].role != "system" and rng.random() < NEUTRAL_SHARE:
        made = _with_system(made, rng.choice(system.NEUTRAL))
    return made


def stream(seed: int, start: int = 0) -> Iterator[Conversation]:
    """All training conversations from a number on."""
    return (conversation(seed, index) for index in count(start))


def _single(mix: dict[Task, int], rng: Random, language: Language | None = None) -> Conversation:
    task = rng.choices(list(mix), list(mix.values()))[0]
    return task(rng, language or rng.choice(list(Language)), Split.TRAIN)


def _chain(rng: Random) -> Conversation:
    """Several unrelated exchanges in one chat, as people do it; they mostly stay in their language."""
    language = rng.choice(list(Language))
    messages: list[Message] = []
    for _ in range(rng.randint(2, 5)):
        messages += _single(_CHAINED, rng, language if rng.random() < 0.9 else None).messages
    return Conversation("chain", tuple(messages))


def _with_system(made: Conversation, prompt: str) -> Conversation:
    return Conversation(made.task, (Message("system", prompt), *made.messages), made.value, made.tools)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=10)
    arguments = parser.parse_args()
    for index in range(arguments.count):
        print("".join(text for text, _ in segments(conversation(arguments.seed, index))))


if __name__ == "__main__":
    main()
