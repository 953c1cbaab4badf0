"""System prompts that change the answer: another language, a closing word, a given name."""

from random import Random

from demo import texts, words
from demo.conversation import Conversation, Message
from demo.split import Language, Split, draw
from demo.tasks import facts

NEUTRAL = texts.items("neutral_system_prompts")
_ASK = texts.phrases("system")
_I_AM = {Language.EN: "I am {x}.", Language.ZH: "我是{x}。"}


def make(rng: Random, language: Language, split: Split) -> Conversation:
    """One of three instructions, with a question whose plain answer is known."""
    return rng.choice((_other_language, _closing_word, _given_name))(rng, language, split)


def _other_language(rng: Random, language: Language, split: Split) -> Conversation:
    """The question comes in `language`, the answer in the other one."""
    other = Language.ZH if language is Language.EN else Language.EN
    fact = rng.choice(facts.small_talk() + facts.project())
    question = facts.ask("", fact, rng, language, split).messages[0]
    return _under("system_language", _ASK["answer_in"][other].pick(rng, split), question, fact.answers[other], "")


def _closing_word(rng: Random, language: Language, split: Split) -> Conversation:
    word = _word(rng, language)
    plain = facts.make_small_talk(rng, language, split)
    space = " " if language is Language.EN else ""
    instruction = _ASK["end_with"][language].pick(rng, split).format(x=word)
    return _under("system_ending", instruction, plain.messages[0], plain.answer + space + word, "")


def _given_name(rng: Random, language: Language, split: Split) -> Conversation:
    name = draw(lambda: words.name(rng, language), split, words.LISTED)
    question = Message("user", _ASK["who"][language].pick(rng, split))
    instruction = _ASK["named"][language].pick(rng, split).format(x=name)
    return _under("system_name", instruction, question, _I_AM[language].format(x=name), name)


def _under(task: str, instruction: str, question: Message, answer: str, value: str) -> Conversation:
    return Conversation(task, (Message("system", instruction), question, Message("assistant", answer)), value)


def _word(rng: Random, language: Language) -> str:
    return rng.choice(("meow", *words.WORDS)) if language is Language.EN else rng.choice(("喵", *words.HAN))
