"""Where a model comes from, and what is said about files that are missing or broken."""

import json
import struct

import pytest

from modelengine.errors import ModelLoadError
from modelengine_runtime import source
from modelengine_runtime.source import Source


def weights(tensor_bytes=b"\0" * 8, claimed=8, header=None):
    """A safetensors file of one tensor; `claimed` is the size that its header says."""
    if header is None:
        header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, claimed]}}).encode()
    return struct.pack("<Q", len(header)) + header + tensor_bytes


@pytest.fixture
def folder(tmp_path):
    """A folder that passes the check."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(weights())
    return tmp_path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("demo", ("demo", "demo", None)),
        ("demo://", ("demo", "demo", None)),
        ("org/name", ("hub", "org/name", None)),
        ("hf://org/name", ("hub", "org/name", None)),
        ("hf://org/name@v1", ("hub", "org/name", "v1")),
    ],
)
def test_a_source_is_recognised(text, expected):
    parsed = source.parse(text)
    assert (parsed.kind, parsed.name, parsed.revision) == expected


def test_a_folder_wins_over_a_hub_name_of_the_same_spelling(tmp_path, monkeypatch):
    (tmp_path / "org/name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert source.parse("org/name") == Source("folder", "org/name", "name")


@pytest.mark.parametrize("text", ["s3://bucket/model", "qwen", "hf://qwen", "a/b/c"])
def test_what_is_no_source_is_refused_with_the_known_forms(text):
    with pytest.raises(ModelLoadError, match="hf://org/name@revision"):
        source.parse(text)


def test_a_complete_folder_passes(folder):
    assert source.resolve(str(folder)) == folder


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ModelLoadError, match=r"gone: no such folder"):
        source.resolve(str(tmp_path / "gone"))


def test_a_folder_without_a_config_is_no_model(folder):
    (folder / "config.json").unlink()
    with pytest.raises(ModelLoadError, match=r"no config\.json"):
        source.check(folder)


def test_a_folder_without_a_tokenizer_says_what_is_expected(folder):
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelLoadError, match=r"no tokenizer; expected one of tokenizer\.json"):
        source.check(folder)


def test_pickled_weights_are_refused_and_the_reason_is_given(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelLoadError, match=r"pytorch_model\.bin is a pickle, which can run code"):
        source.check(folder)


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff" * 8, b"\xff" * 100, weights(header=b"not json"), weights(header=b"[]"), weights(header=b'{"w": 1}')],
    ids=["empty", "only a length", "a length beyond the file", "not json", "a list", "no offsets"],
)
def test_a_corrupt_header_is_named_with_its_file(folder, content):
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelLoadError, match=r"model\.safetensors: the safetensors header is corrupt"):
        source.check(folder)


def test_a_file_that_was_cut_off_is_found_without_reading_its_tensors(folder):
    (folder / "model.safetensors").write_bytes(weights(tensor_bytes=b"\0" * 3))
    with pytest.raises(ModelLoadError, match="the file is cut off or damaged"):
        source.check(folder)


def test_a_missing_shard_is_named(folder):
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model-1.safetensors").write_bytes(weights())
    with pytest.raises(ModelLoadError, match=r"model-2\.safetensors is missing \(1 of 2 files\)"):
        source.check(folder)
    (folder / "model-2.safetensors").write_bytes(weights())
    source.check(folder)


def test_an_index_that_is_no_index_is_named(folder):
    (folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ModelLoadError, match="not a safetensors index"):
        source.check(folder)
