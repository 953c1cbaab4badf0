"""What each token of a model stands for: its bytes, and all of them as llguidance wants to know them.

The loader makes one for a model. Reading 150,000 tokens takes two seconds and 200 MB, so it is done when somebody
first asks, and never in the step thread or on the event loop (`prepare`).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable

from llguidance import LLTokenizer, TokenizerWrapper


class Vocabulary:
    """Special are all tokens that are added to a tokenizer, marks of calls among them, and those that end an answer. In
    a text they never stand for their letters, so nothing in an answer in JSON is taken for a mark."""

    def __init__(self, describe: Callable[[], str], stop_tokens: Iterable[int]) -> None:
        """`describe` gives the tokenizer as the JSON of its file."""
        self._describe = describe
        self._stop_tokens = sorted(stop_tokens)
        self._lock = threading.Lock()
        self._read: _Read | None = None

    @property
    def is_read(self) -> bool:
        return self._read is not None

    def prepare(self) -> LLTokenizer:
        """For grammars; the tokens are read where they were not yet. Raises what llguidance does over a tokenizer of a
        kind that it can't read."""
        return self._tokens().for_grammars

    def digits(self) -> int:
        """A bit for each token that begins with a digit, as `Guide.mask` has them, as one number."""
        return self._tokens().digits

    def spell(self, token: int) -> tuple[str, bytes]:
        """The token as text, where a piece of a character is one that replaces it, and its bytes."""
        known = self._tokens().spelt
        spelt = known[token] if token < len(known) else b""
        return spelt.decode(errors="replace"), spelt

    def symbols(self, text: str) -> str:
        """The text in Lark's notation, where its special tokens have to be named by their numbers."""
        tokens = self._tokens()
        symbols: list[str] = []
        plain: list[int] = []
        for token in [*tokens.reader.tokenize_str(text, parse_special=True), None]:
            if token is not None and token not in tokens.special:
                plain.append(token)
                continue
            if plain:
                symbols.append(json.dumps(tokens.reader.decode_str(plain), ensure_ascii=False))
                plain = []
            if token is not None:
                symbols.append(f"<[{token}]>")
        return " ".join(symbols)

    def _tokens(self) -> _Read:
        with self._lock:
            if self._read is None:
                self._read = _Read(LLTokenizer(self._describe(), eos_token=self._stop_tokens or None))
            return self._read


class _Read:
    """All tokens, read once. To llguidance it is the tokenizer from which it makes its own.

    Its own reading would take a special token where a grammar has the letters of it, and then refuse that token.
    """

    def __init__(self, reader: LLTokenizer) -> None:
        self.reader = reader
        self.spelt = [bytes(reader.decode_bytes([token])) for token in range(reader.vocab_size)]
        # What ends an answer is not part of a text, whatever its letters are.
        named = (token for token in range(reader.vocab_size) if reader.is_special_token(token))
        self.special = frozenset([*named, *reader.eos_tokens])
        begin_with_digit = bytearray(-(-len(self.spelt) // 8))
        for token, spelt in enumerate(self.spelt):
            if spelt[:1].isdigit():
                begin_with_digit[token // 8] |= 1 << token % 8
        self.digits = int.from_bytes(begin_with_digit, "little")
        self.eos_token_id = reader.eos_token
        self.bos_token_id = None
        self.tokens = self.spelt
        self.special_token_ids = sorted(self.special)
        self.for_grammars = LLTokenizer(TokenizerWrapper(self), eos_token=reader.eos_tokens)

    def __call__(self, text: bytes) -> list[int]:
        tokens: list[int] = []
        for token in self.reader.tokenize_bytes(text):
            tokens += self._letters(token) if token in self.special else [token]
        return tokens

    def _letters(self, token: int) -> list[int]:
        letters = self.spelt[token].decode(errors="replace")
        return [piece for letter in letters for piece in self.reader.tokenize_bytes(letter.encode())]
