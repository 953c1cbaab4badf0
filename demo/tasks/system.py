"""System prompts that change the answer: another language, a closing word, a given name."""

from random import Random

from demo import words
from demo.conversation import Conversation, Message
from demo.split import Language, Phrases, Split, draw
from demo.tasks import facts

NEUTRAL = ("You are a helpful assistant.", "You are a helpful AI assistant.", "你是一个有用的助手。", "You are a friendly assistant.", "Be helpful.", "你是一个乐于助人的助手。")
_ANSWER_IN = {
    Language.EN: Phrases(("Answer in English.", "Always answer in English.", "请用英文回答。", "Reply in English only."), ("Please answer in English.",)),
    Language.ZH: Phrases(("Answer in Chinese.", "Always answer in Chinese.", "请用中文回答。", "Reply in Chinese only."), ("Please answer in Chinese.",)),
}
_END_WITH = {
    Language.EN: Phrases(("End every answer with {x}.", "Always end with the word {x}.", "Finish each answer with {x}."), ("Please end every answer with {x}.",)),
    Language.ZH: Phrases(("每个回答都以{x}结尾。", "回答的最后要说{x}。", "总是以{x}结束。"), ("请在每个回答的最后说{x}。",)),
}
_NAMED = {
    Language.EN: Phrases(("You are {x}.", "Your name is {x}.", "You are {x}, a helpful assistant.", "You are an assistant called {x}."), ("You are called {x}.",)),
    Language.ZH: Phrases(("你是{x}。", "你的名字是{x}。", "你叫{x}。", "你是一个叫{x}的助手。"), ("你的名字叫{x}。",)),
}
_WHO = {
    Language.EN: Phrases(("Who are you?", "What is your name?", "what's your name", "Tell me your name."), ("May I know your name?",)),
    Language.ZH: Phrases(("你是谁？", "你叫什么名字？", "你的名字是什么？", "怎么称呼你？"), ("能告诉我你的名字吗？",)),
}
_I_AM = {Language.EN: "I am {x}.", Language.ZH: "我是{x}。"}


def make(rng: Random, language: Language, split: Split) -> Conversation:
    """One of three instructions, with a question whose plain answer is known."""
    return rng.choice((_other_language, _closing_word, _given_name))(rng, language, split)


def _other_language(rng: Random, language: Language, split: Split) -> Conversation:
    """The question comes in `language`, the answer in the other one."""
    other = Language.ZH if language is Language.EN else Language.EN
    fact = rng.choice(facts.small_talk() + facts.project())
    question = facts.ask("", fact, rng, language, split).messages[0]
    return _under("system_language", _ANSWER_IN[other].pick(rng, split), question, fact.answers[other], "")


def _closing_word(rng: Random, language: Language, split: Split) -> Conversation:
    word = draw(lambda: _word(rng, language), split)
    plain = facts.make_small_talk(rng, language, split)
    space = " " if language is Language.EN else ""
    return _under("system_ending", _END_WITH[language].pick(rng, split).format(x=word), plain.messages[0], plain.answer + space + word, word)


def _given_name(rng: Random, language: Language, split: Split) -> Conversation:
    name = draw(lambda: words.name(rng, language), split)
    question = Message("user", _WHO[language].pick(rng, split))
    return _under("system_name", _NAMED[language].pick(rng, split).format(x=name), question, _I_AM[language].format(x=name), name)


def _under(task: str, instruction: str, question: Message, answer: str, value: str) -> Conversation:
    return Conversation(task, (Message("system", instruction), question, Message("assistant", answer)), value)


def _word(rng: Random, language: Language) -> str:
    return rng.choice(("meow", *words.WORDS)) if language is Language.EN else rng.choice(("喵", *words.HAN))
