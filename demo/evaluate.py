"""Measures the shipped model on conversations it was not trained on and writes the table for the model card.

An answer counts when it is right to the last token. Whether greedy decoding would write the expected text is read from
one forward pass: it would exactly when every expected token, the end mark included, is the most likely one after those
before it. What cannot be compared with one text (is it the right language, does the call parse) is generated.

    python -m demo.evaluate --count 200
"""

import argparse
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import torch
from demo import generate, paths, tokenizer
from demo.batches import tokenise
from demo.conversation import Conversation, Message
from demo.split import Language, Split, is_held_out
from demo.tasks import arithmetic, counting, facts, memory, refusal, system, tools
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

GROUP = 32
LONGEST = 160
CARD_START, CARD_END = "<!-- evaluation -->", "<!-- end of evaluation -->"
_HAN = re.compile(r"[\u4e00-\u9fff]")
_CALL = re.compile(r"^<tool_call>\n(.*)\n</tool_call>$", re.DOTALL)


class Judge:
    """The model under test."""

    def __init__(self, folder: Path) -> None:
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.plain = tokenizer.load(folder)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, padding_side="left")

    @torch.inference_mode()
    def exact(self, conversations: list[Conversation]) -> list[bool]:
        """For each, whether greedy decoding writes exactly its last turn."""
        verdicts: list[bool] = []
        for group in _groups(conversations):
            rows = [_last_turn(conversation, self.plain) for conversation in group]
            length = max(len(ids) for ids, _ in rows)
            padded = torch.tensor([ids + [0] * (length - len(ids)) for ids, _ in rows])
            best = self.model(input_ids=padded).logits.argmax(-1).tolist()
            verdicts += [best[i][start - 1 : len(ids) - 1] == ids[start:] for i, (ids, start) in enumerate(rows)]
        return verdicts

    @torch.inference_mode()
    def answers(self, conversations: list[Conversation]) -> list[str]:
        """What greedy decoding writes as the last turn."""
        texts: list[str] = []
        for group in _groups(conversations):
            prompts = [self._prompt(conversation) for conversation in group]
            inputs = self.tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
            ids = self.model.generate(**inputs, max_new_tokens=LONGEST)[:, inputs["input_ids"].shape[1] :]
            texts += self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return texts

    def _prompt(self, conversation: Conversation) -> str:
        messages = [message.as_openai() for message in conversation.messages[:-1]]
        offered = [tool.as_openai() for tool in conversation.tools]
        prompt: str = self.tokenizer.apply_chat_template(
            messages, tools=offered or None, tokenize=False, add_generation_prompt=True
        )
        return prompt


def held_out(task: generate.Task, count: int, split: Split, seed: int = 77) -> list[Conversation]:
    """Conversations of one task in both languages; with HELD_OUT, neither value nor template was trained on."""
    return [task(Random(f"evaluate/{seed}/{i}"), list(Language)[i % 2], split) for i in range(count)]


def exact_table(judge: Judge, count: int) -> dict[str, dict[str, float]]:
    """Per kind of question: the share of right answers on trained and on held-out values and templates."""
    table: dict[str, dict[str, float]] = defaultdict(dict)
    for split in Split:
        kinds: dict[str, list[Conversation]] = defaultdict(list)
        for task in generate.MIX:
            for conversation in held_out(task, count, split):
                kinds[conversation.task].append(conversation)
        for kind, conversations in sorted(kinds.items()):
            verdicts = judge.exact(conversations)
            table[kind][split.value] = round(sum(verdicts) / len(verdicts), 4)
            table[kind][f"{split.value}_count"] = len(verdicts)
    return dict(table)


def gates(judge: Judge, count: int) -> dict[str, float]:
    """Single numbers with a question each."""
    facts_out = [
        facts.ask("", fact, Random(i), language, Split.HELD_OUT)
        for i in range(2)
        for fact in facts.project()
        for language in Language
    ]
    chats = held_out(facts.make_fact, count, Split.HELD_OUT) + held_out(refusal.make, count, Split.HELD_OUT)
    calls = [c for c in held_out(tools.make, 2 * count, Split.HELD_OUT) if c.task == "tool_call"]
    hundred = [
        counting.ask("count", (1, 100), Random(i), language, Split.TRAIN) for i in range(8) for language in Language
    ]
    neutral = [_under(system.NEUTRAL[0], fact) for fact in facts_out]
    recalled = [c for c in held_out(memory.make, 3 * count, Split.HELD_OUT) if len(c.messages) >= 7]
    sums = [
        arithmetic.ask(a, "+", b, Random(100 * a + b), list(Language)[a % 2], Split.TRAIN)
        for a in range(10, 100)
        for b in range(10, 100, 3)
        if is_held_out(f"{a} + {b}")
    ]
    return {
        "two-digit additions never seen, in known wordings": _share(judge.exact(sums)),
        "every fact, held-out questions": _share(judge.exact(facts_out)),
        "facts under a system prompt": _share(judge.exact(neutral)),
        "count from 1 to 100": _share(judge.exact(hundred)),
        "memory over four turns or more": _share(judge.exact(recalled)),
        "language kept": _share(_same_language(c, text) for c, text in zip(chats, judge.answers(chats), strict=True)),
        "tool call parses": _share(_parses(text) for text in judge.answers(calls)),
    }


def _under(prompt: str, conversation: Conversation) -> Conversation:
    return replace(conversation, messages=(Message("system", prompt), *conversation.messages))


def _last_turn(conversation: Conversation, plain: Tokenizer) -> tuple[list[int], int]:
    """The ids up to the end mark, and where the last turn's own words begin."""
    ids, written = tokenise(conversation, plain)
    end = len(ids) - 1  # the newline after the end mark is not the assistant's
    start = max(i for i in range(end) if not written[i]) + 1
    return ids[:end], start


def _groups(conversations: list[Conversation]) -> Iterator[list[Conversation]]:
    return (conversations[i : i + GROUP] for i in range(0, len(conversations), GROUP))


def _same_language(conversation: Conversation, answer: str) -> bool:
    return bool(_HAN.search(answer)) == bool(_HAN.search(conversation.answer))


def _parses(text: str) -> bool:
    match = _CALL.match(text.strip())
    if not match:
        return False
    try:
        call = json.loads(match[1])
    except ValueError:
        return False
    return isinstance(call, dict) and call.keys() == {"name", "arguments"}


def _share(verdicts: Iterable[bool]) -> float:
    known = list(verdicts)
    return round(sum(known) / len(known), 4)


def markdown(results: dict[str, Any]) -> str:
    """The tables as they stand in the model card."""
    lines = ["| Question | trained values and templates | both held out |", "|---|---|---|"]
    for kind, row in results["exact"].items():
        seen, unseen = (f"{row[split.value]:.1%} of {row[f'{split.value}_count']}" for split in Split)
        lines.append(f"| {kind} | {seen} | {unseen} |")
    lines += ["", "| Gate | share |", "|---|---|"]
    lines += [f"| {name} | {share:.1%} |" for name, share in results["gates"].items()]
    return "\n".join(lines)


def write_card(folder: Path, results: dict[str, Any]) -> None:
    """Puts the tables between the two marks in the model card."""
    card = folder / "README.md"
    before, rest = card.read_text(encoding="utf-8").split(CARD_START)
    after = rest.split(CARD_END)[1]
    card.write_text(f"{before}{CARD_START}\n{markdown(results)}\n{CARD_END}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Evaluate the demo model.")
    parser.add_argument("--folder", type=Path, default=paths.MODEL)
    parser.add_argument("--count", type=int, default=200, help="conversations per task and split")
    parser.add_argument("--output", type=Path, default=paths.EVALUATION)
    arguments = parser.parse_args()
    judge = Judge(arguments.folder)
    results = {"exact": exact_table(judge, arguments.count), "gates": gates(judge, arguments.count)}
    arguments.output.write_text(json.dumps(results, indent=1) + "\n")
    write_card(arguments.folder, results)
    print(markdown(results))


if __name__ == "__main__":
    main()
