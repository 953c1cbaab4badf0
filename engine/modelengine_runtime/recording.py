"""Makes one program of a model's pass: what its own code calls is recorded once, and then runs without that code.

Nothing is known about the model. While it runs, every kernel call is heard, and every other thing that torch does with
what the kernels made is seen; whatever a program can't do ends the attempt, and the model goes on running as it is. It
is recorded twice, over different numbers of tokens, and both must come to the same program. What the kernels read and
did not make must follow from positions alone, as rotary angles do: the program reads it from tables by position.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from modelengine_kernels import tape
from modelengine_kernels.program import Buffer, Columns, Instruction, Program
from modelengine_kernels.tape import Call, Operation
from modelengine_runtime.blocks import blocks_for
from modelengine_runtime.kv_cache import KVCache, Packed, Span

# Tokens of the two recordings, and how many of them have their scores taken. No two alike, for these tell what is what.
TRIALS = ((19, 3), (26, 5))
# Rows that tables grow by, at least.
TABLE_ROWS = 512

# Runs the model's own code over tokens at positions, and gives the scores of some rows of them.
Forward = Callable[[Sequence[int], Sequence[int], Packed, Sequence[int]], torch.Tensor]
aten = torch.ops.aten


class NotRecordable(Exception):
    """The model does something that a program can't."""


class RecordedPass:
    def __init__(self, forward: Forward, recorder: _Recorder) -> None:
        self._forward = forward
        self._program = Program(recorder.instructions, recorder.buffers)
        self._layers = recorder.layers
        self._vocabulary = recorder.vocabulary
        self._tables = [torch.empty((0, table.shape[-1])) for table in recorder.tables]

    def run(self, tokens: Sequence[int], positions: Sequence[int], packed: Packed, rows: Sequence[int]) -> torch.Tensor:
        """The scores `[rows, vocabulary]` in float32, as the model's own code gives them. Raises IndexError for a token
        that the model does not know."""
        if not 0 <= min(tokens) <= max(tokens) < self._vocabulary:
            raise IndexError(f"a token is not in the table of {self._vocabulary}")
        self._reach(max(positions) + 1)
        return self._program.run(tokens, positions, rows, packed.plan, self._caches(packed.cache), self._tables)

    def _caches(self, cache: KVCache) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return [cache.layer(index, *sizes, torch.float32) for index, sizes in self._layers.items()]

    def _reach(self, positions: int) -> None:
        """Grows the tables to so many positions."""
        known = len(self._tables[0]) if self._tables else positions
        if known >= positions:
            return
        wanted = max(positions, known + TABLE_ROWS, min(2 * known, known + 8 * TABLE_ROWS))
        new = _read_tables(self._forward, range(known, wanted), len(self._tables))
        self._tables = [torch.cat([old, more]) for old, more in zip(self._tables, new, strict=True)]


def record(forward: Forward, vocabulary: int) -> RecordedPass:
    """Raises NotRecordable."""
    recorders = [_record(forward, vocabulary, tokens, rows) for tokens, rows in TRIALS]
    first, second = recorders
    if (first.instructions, first.buffers) != (second.instructions, second.buffers):
        raise NotRecordable("what it does depends on the number of tokens")
    return RecordedPass(forward, first)


# Without gradients, but not in torch's inference mode: there a recorder would see less.
@torch.no_grad()
def _record(forward: Forward, vocabulary: int, count: int, selected: int) -> _Recorder:
    tokens = [(5 * i + 2) % vocabulary for i in range(count)]
    rows = [*range(1, count, count // selected)][:selected]
    recorder = _Recorder(tokens, rows, vocabulary)
    with tape.listening(recorder), recorder:
        scores = forward(tokens, range(count), _one_sequence(count), rows)
    recorder.finish(scores)
    return recorder


def _one_sequence(count: int) -> Packed:
    blocks = blocks_for(count)
    return Packed(KVCache(blocks), [Span(0, count, 0, range(blocks))])


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Both sides of what happens: kernel calls, and torch's operations on what they made."""

    def __init__(self, tokens: Sequence[int], rows: Sequence[int], vocabulary: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.instructions: list[Instruction] = []
        self.buffers: list[Buffer] = []
        self.tables: list[torch.Tensor] = []
        self.vocabulary = vocabulary
        # What each keeps: key heads, and the sizes of keys and values.
        self.layers: dict[int, tuple[int, int, int]] = {}
        self._tokens, self._rows = torch.tensor(tokens), torch.tensor(rows)
        # By storage; held, so that none is given to another tensor.
        self._made: dict[int, int] = {}
        self._held: list[torch.Tensor] = []

    def hear(self, call: Call) -> bool:
        inputs: tuple[Columns, ...] = ()
        sizes = call.sizes
        if call.operation is Operation.EMBED:
            if not torch.equal(call.inputs[0].flatten(), self._tokens):
                raise NotRecordable("it looks up something else than the tokens")
        elif call.operation is Operation.ROTATE:
            inputs = (self._columns(call.inputs[0]),)
            sizes += tuple(self._table(table) for table in call.inputs[1:])
        else:
            inputs = tuple(map(self._columns, call.inputs))
        if call.operation is Operation.ATTEND:
            _, kv_heads, head_dim, value_dim, _, layer = sizes
            self.layers[layer] = kv_heads, head_dim, value_dim
        weights = tuple(0 if weight is None else weight.data_ptr() for weight in call.weights)
        self.instructions.append(
            Instruction(call.operation, inputs, self._buffer(call.output), weights, sizes, call.numbers)
        )
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        made = [x for x in tree_leaves(args) if isinstance(x, torch.Tensor) and id_of(x) in self._made]
        if func is aten.add.Tensor and len(made) == 2 and not kwargs:
            self._add_tensors(made[0], made[1], result)
        elif func is aten.index.Tensor and made:
            self._select(made[0], args[1], result)
        elif made and (func._schema.is_mutable or not _are_views(result, made)):
            raise NotRecordable(f"it uses {func}")
        return result

    def finish(self, scores: torch.Tensor) -> None:
        last = self.instructions[-1] if self.instructions else None
        if last is None or self._made.get(id_of(scores)) != last.output or scores.storage_offset():
            raise NotRecordable("its scores are not what a kernel made last")
        if scores.shape != (len(self._rows), self.buffers[last.output].columns):
            raise NotRecordable("its scores have another shape")
        if [*self.layers] != [*range(len(self.layers))]:
            raise NotRecordable("its layers are not numbered in order")
        # All has been asked for that hangs on which memory a tensor had.
        self._made.clear()
        self._held.clear()

    def _add_tensors(self, a: torch.Tensor, b: torch.Tensor, result: torch.Tensor) -> None:
        if a.shape != b.shape or not a.is_contiguous() or not b.is_contiguous():
            raise NotRecordable("it adds what does not lie alike")
        inputs = tuple(self._columns(x.view(-1, x.shape[-1])) for x in (a, b))
        self.instructions.append(Instruction(Operation.ADD, inputs, self._buffer(result), (), (a.shape[-1],)))

    def _select(self, x: torch.Tensor, indices: Sequence[torch.Tensor | None], result: torch.Tensor) -> None:
        picked = [index for index in indices if index is not None]
        shape = (1, len(self._rows), x.shape[-1])
        if len(picked) != 1 or not torch.equal(picked[0], self._rows) or result.shape != shape:
            raise NotRecordable("it picks rows that nobody asked for")
        inputs = (self._columns(x[0]),)
        self.instructions.append(Instruction(Operation.SELECT, inputs, self._buffer(result), (), (x.shape[-1],)))

    def _columns(self, x: torch.Tensor) -> Columns:
        """Where `[rows, dim]` or `[rows, heads, dim]` stands in what a kernel made."""
        number = self._made.get(id_of(x))
        if number is None:
            raise NotRecordable("a kernel reads what no kernel made")
        buffer = self.buffers[number]
        rows = self._rows if buffer.is_selected else self._tokens
        if len(x) != len(rows) or x.stride(0) != buffer.columns or x.stride(-1) != 1:
            raise NotRecordable("a kernel reads what does not lie in rows")
        return Columns(number, int(x.storage_offset()), x.stride(1) if x.ndim == 3 else 0)

    def _buffer(self, x: torch.Tensor) -> int:
        """Notes `[.., rows, dim]`, just made, as one."""
        numbers = x.untyped_storage().nbytes() // x.element_size()
        is_selected = numbers == len(self._rows) * x.shape[-1] and x.shape[-2] == len(self._rows)
        rows = len(self._rows) if is_selected else len(self._tokens)
        if x.dtype != torch.float32 or x.storage_offset() or numbers % rows:
            raise NotRecordable("a result is not made of rows of float32")
        self.buffers.append(Buffer(numbers // rows, is_selected))
        self._made[id_of(x)] = len(self.buffers) - 1
        self._held.append(x)
        return len(self.buffers) - 1

    def _table(self, x: torch.Tensor) -> int:
        if id_of(x) in self._made or len(x) != len(self._tokens):
            raise NotRecordable("its positions depend on more than the position")
        return _index(x, self.tables)


class _TableReader:
    """Hears a pass until all tables are known; nothing is computed."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.tables: list[torch.Tensor] = []

    def hear(self, call: Call) -> bool:
        if call.operation is Operation.ROTATE:
            for table in call.inputs[1:]:
                _index(table, self.tables)
            if len(self.tables) == self.count:
                raise _Enough
        return True


class _Enough(Exception):
    """All tables are known."""


@torch.no_grad()
def _read_tables(forward: Forward, positions: range, count: int) -> list[torch.Tensor]:
    reader = _TableReader(count)
    try:
        with tape.listening(reader):
            forward([0] * len(positions), positions, _one_sequence(len(positions)), [0])
    except _Enough:
        pass
    return reader.tables


def _index(table: torch.Tensor, tables: list[torch.Tensor]) -> int:
    """Of the table among those that are known; the new one is added."""
    for index, known in enumerate(tables):
        if known.data_ptr() == table.data_ptr():
            return index
    tables.append(table)
    return len(tables) - 1


def id_of(x: torch.Tensor) -> int:
    return int(x.untyped_storage().data_ptr())


def _are_views(result: Any, of: Sequence[torch.Tensor]) -> bool:
    parts = result if isinstance(result, list | tuple) else [result]
    storages = {id_of(x) for x in of}
    return all(isinstance(part, torch.Tensor) and id_of(part) in storages for part in parts)
