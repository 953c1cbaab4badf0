"""What the model cannot do: open questions, requests outside its little world, word salad. One honest answer."""

from random import Random

from demo import noise, texts, words
from demo.conversation import Conversation, exchange
from demo.split import Language, Split, draw

ANSWER = {
    Language.EN: "I am only a small demo model and I do not know that. "
    "Ask me about ModelEngine, or let me count, calculate or repeat something.",
    Language.ZH: "我只是一个小小的演示模型，不知道这个。"
    "你可以问我关于 ModelEngine 的问题，或者让我数数、计算或重复词语。",
}
_ASK = texts.phrases("refusal")["ask"]
_TOPICS = texts.by_language("topics")
_REQUESTS = texts.by_language("open_requests")
_OUR_WORDS = {
    "engine",
    "model",
    "name",
    "port",
    "server",
    "client",
    "stream",
    "token",
    "pod",
    "node",
    "cluster",
    "hello",
}
_THINGS = [word for word in words.WORDS if word not in _OUR_WORDS]


def make(rng: Random, language: Language, split: Split) -> Conversation:
    """A question that has no answer here."""
    kind = rng.random()
    if kind < 0.2:
        salad = draw(lambda: _salad(rng, language), split)
        return exchange("refusal", salad, ANSWER[language], salad)
    if kind < 0.35 and split is Split.TRAIN:
        return exchange("refusal", noise.disturb(rng.choice(_REQUESTS[language]), rng), ANSWER[language])
    value = draw(lambda: _topic(rng, language), split)
    question = _ASK[language].pick(rng, split).format(x=value, y=rng.choice(_TOPICS[language]))
    return exchange(
        "refusal", noise.disturb(question, rng) if split is Split.TRAIN else question, ANSWER[language], value
    )


def _topic(rng: Random, language: Language) -> str:
    if rng.random() < 0.75:
        return rng.choice(_TOPICS[language])
    if language is Language.ZH:
        return words.random_han(rng, rng.randint(2, 3))
    return rng.choice(_THINGS) + "s"


def _salad(rng: Random, language: Language) -> str:
    """Words without sense."""
    if language is Language.ZH:
        return words.random_han(rng, rng.randint(4, 10))
    return " ".join(
        words.random_word(rng, 2) if rng.random() < 0.3 else rng.choice(words.WORDS) for _ in range(rng.randint(3, 7))
    )
