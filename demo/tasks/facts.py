"""Questions with one fixed answer: facts about the project, and small talk, both read from YAML."""

from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

from demo import noise, texts
from demo.conversation import Conversation, exchange
from demo.split import Language, Phrases, Split


@dataclass(frozen=True)
class Fact:
    """One thing to know: how it is asked and what is answered, per language."""

    id: str
    questions: dict[Language, Phrases]
    answers: dict[Language, str]


@cache
def project() -> tuple[Fact, ...]:
    """Facts about ModelEngine and the words around it."""
    return _load("facts.yaml")


@cache
def small_talk() -> tuple[Fact, ...]:
    """Greetings, thanks, moods."""
    return _load("small_talk.yaml")


def make_fact(rng: Random, language: Language, split: Split) -> Conversation:
    """A question about the project. Longer answers need more practice, so they are drawn more often."""
    facts = project()
    weights = [len(fact.answers[language]) for fact in facts]
    return ask("facts", rng.choices(facts, weights)[0], rng, language, split)


def make_small_talk(rng: Random, language: Language, split: Split) -> Conversation:
    return ask("small_talk", rng.choice(small_talk()), rng, language, split)


def ask(task: str, fact: Fact, rng: Random, language: Language, split: Split) -> Conversation:
    """One exchange about a given fact."""
    question = fact.questions[language].pick(rng, split)
    if split is Split.TRAIN:
        question = noise.disturb(question, rng)
    return exchange(task, question, fact.answers[language])


def _load(name: str) -> tuple[Fact, ...]:
    document = texts.read(name)
    templates = document.get("templates", {})
    return tuple(_fact(entry, templates) for entry in document["facts"])


def _fact(entry: dict[str, Any], templates: dict[str, Any]) -> Fact:
    questions = {
        language: _questions(entry[language.value], templates.get(language.value, {})) for language in Language
    }
    return Fact(entry["id"], questions, {language: entry[language.value]["answer"] for language in Language})


def _questions(entry: dict[str, Any], templates: dict[str, list[str]]) -> Phrases:
    def filled(kind: str) -> tuple[str, ...]:
        about = [template.format(s=subject) for subject in entry.get("about", ()) for template in templates[kind]]
        return tuple(dict.fromkeys([*about, *entry.get(kind, ())]))

    held_out = filled("held_out")
    return Phrases(tuple(question for question in filled("ask") if question not in held_out), held_out)
