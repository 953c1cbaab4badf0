"""The second window of the first example: what `modelengine demo` prints, and the README shows."""

from __future__ import annotations

import re

RULER = "=" * 80
CHUNK = re.compile(
    r"ServerResponse\(state='ok', msg=ChatChunk\(model='demo', prompt_length=(?P<prompt>\d+), "
    r"response_length=(?P<length>\d+), finish_reason=(?P<reason>None|'\w+'), "
    r"content=(?P<content>None|'.*'|\".*\"), done=(?P<done>True|False)\)\)"
)


def check(lines: list[str], port: int | None, host: str = "127.0.0.1") -> None:
    """Asserts the order and the shape; `port` None takes any."""
    assert lines[:2] == [RULER, "Wait demo available"]
    listed = re.fullmatch(
        rf"\[ServerInfo\(name='demo', host='{re.escape(host)}', port=(\d+), protocol='chat'\)\]", lines[2]
    )
    assert listed is not None
    assert port in (None, int(listed[1]))
    assert lines[3:8] == [
        RULER,
        "ModelEngineInferenceEngine support_methods",
        "state='ok' msg={'support_methods': ['inference', 'info', 'support_methods']}",
        RULER,
        "stream == False",
    ]
    stream_at = lines.index("stream == True")
    assert lines[stream_at - 1] == RULER
    assert re.fullmatch(r"response_length: [1-9]\d*", lines[stream_at - 2])
    assert "".join(lines[8 : stream_at - 2])
    parts = [CHUNK.fullmatch(line) for line in lines[stream_at + 1 :]]
    assert len(parts) > 1
    assert all(parts)
    lengths = [int(part["length"]) for part in parts if part is not None]
    assert lengths == sorted(lengths)
    assert len({part["prompt"] for part in parts if part is not None}) == 1
    *running, last = [part for part in parts if part is not None]
    assert all((part["reason"], part["done"]) == ("None", "False") and part["content"] != "None" for part in running)
    assert last["reason"] in ("'stop'", "'length'")
    assert (last["content"], last["done"]) == ("None", "True")
    assert int(last["length"]) == int(running[-1]["length"])
