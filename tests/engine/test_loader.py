"""Loading: what is picked, and one clear line for each way in which it can't work."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, PreTrainedTokenizerFast

from modelengine.chats import ChatRequest, Message
from modelengine.errors import InvalidRequest, ModelLoadError
from modelengine_kernels import library
from modelengine_runtime import loader, machine, prompt, runner, source
from small_models import small_model


@pytest.fixture
def folder(tmp_path):
    """A small Llama in float32 with the demo model's tokenizer."""
    small_model("llama").save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(source.DEMO_FOLDER / name, tmp_path / name)
    return tmp_path


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_model_comes_with_the_facts_that_info_tells(folder):
    model = loader.load(folder, device="cpu")
    assert isinstance(model.runner, runner.PackedRunner)
    assert (model.architecture, model.context_length, model.dtype, model.device) == (
        "LlamaForCausalLM",
        512,
        "float32",
        "cpu",
    )
    # Keys and values of 2 heads of 16 float32 numbers, in 3 layers.
    assert model.kv_bytes_per_token == 2 * 2 * 16 * 4 * 3
    assert model.tokenizer.eos_token_id in model.stop_tokens


def test_the_cache_is_counted_as_it_is_kept_not_as_the_config_suggests(tmp_path):
    """Latent attention stores another width than head_dim says."""
    model = small_model("deepseek_v3")
    chosen = runner.choose(model)
    assert isinstance(chosen, runner.PackedRunner)
    config = model.config
    key, value = config.qk_nope_head_dim + config.qk_rope_head_dim, config.v_head_dim
    expected = config.num_hidden_layers * config.num_attention_heads * (key + value) * 4
    assert chosen.kv_bytes_per_token() == expected


def test_a_smaller_context_may_be_asked_for_but_not_a_larger_one(folder):
    assert loader.load(folder, device="cpu", max_context=100).context_length == 100
    assert loader.load(folder, device="cpu", max_context=9999).context_length == 512


@pytest.mark.parametrize(
    ("stored", "device", "fast_bfloat16", "kernels", "expected"),
    [
        ("bfloat16", "cpu", True, None, torch.bfloat16),
        ("bfloat16", "cpu", False, None, torch.float32),
        ("bfloat16", "cpu", False, object(), torch.bfloat16),
        ("float16", "cpu", True, None, torch.float32),
        ("float16", "cpu", True, object(), torch.float32),
        ("float16", "cuda", True, None, torch.float16),
        ("float32", "cpu", True, object(), torch.float32),
    ],
)
def test_auto_takes_the_checkpoint_s_type_unless_the_cpu_would_emulate_it(
    monkeypatch, stored, device, fast_bfloat16, kernels, expected
):
    monkeypatch.setattr(library, "load", lambda: kernels)
    monkeypatch.setattr(machine, "has_fast_bfloat16", lambda: fast_bfloat16)
    config = AutoConfig.for_model("llama", dtype=stored)
    assert loader.choose_dtype("auto", config, device) == expected
    assert loader.choose_dtype("float16", config, device) == torch.float16


@pytest.mark.parametrize(
    ("parameters", "cores", "threads"),
    [(3_000_000, 8, 1), (500_000_000, 2, 2), (500_000_000, 64, 16), (10**10, 64, 64)],
)
def test_a_model_gets_as_many_threads_as_its_size_is_worth_and_the_machine_has(parameters, cores, threads):
    assert loader.choose_threads(parameters, cores) == threads


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens where there is no GPU")
def test_a_gpu_that_is_not_there_is_named(folder):
    with pytest.raises(ModelLoadError, match="torch sees no CUDA device"):
        loader.load(folder, device="cuda")


def test_a_config_that_is_not_json_is_one_line_with_the_folder(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelLoadError, match=str(folder)) as failure:
        loader.load(folder, device="cpu")
    assert "\n" not in failure.value.message


def test_an_architecture_that_transformers_does_not_know_is_named(folder):
    edit(folder / "config.json", model_type="flux-capacitor", architectures=["FluxCapacitor"])
    with pytest.raises(ModelLoadError, match="flux-capacitor"):
        loader.load(folder, device="cpu")


def test_code_that_comes_with_a_model_is_not_run(folder):
    (folder / "modeling.py").write_text("raise SystemExit('this must not run')")
    edit(folder / "config.json", model_type="mine", auto_map={"AutoConfig": "modeling.Config"})
    with pytest.raises(ModelLoadError, match="custom code"):
        loader.load(folder, device="cpu")


def test_a_missing_weight_is_not_made_up(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelLoadError, match=r"lack model\.layers\.1\.mlp\.up_proj\.weight"):
        loader.load(folder, device="cpu")


def test_weights_of_another_shape_are_refused(folder):
    edit(folder / "config.json", intermediate_size=64)
    with pytest.raises(ModelLoadError, match=str(folder)):
        loader.load(folder, device="cpu")


def test_a_model_without_a_chat_template_is_no_chat_model(folder):
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ModelLoadError, match="no chat template"):
        loader.load(folder, device="cpu")


@pytest.fixture(scope="module")
def bos_tokenizer():
    """A tokenizer that begins every text with <bos>, and a template that writes <bos> as well, as Llama's do."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {"<bos>": 0, "<eos>": 1, **{chr(code): code for code in range(32, 127)}}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    backend.add_special_tokens(["<bos>", "<eos>"])
    backend.post_processor = processors.TemplateProcessing("<bos> $A", special_tokens=[("<bos>", 0)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<bos>", eos_token="<eos>")
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}"
        "{% if m.role == 'system' %}{{ raise_exception('no system role here') }}{% endif %}"
        "{{ m.content }}{% endfor %}"
    )
    return tokenizer


def request(*roles):
    return ChatRequest("m", tuple(Message(role, "hi") for role in roles))


def test_the_prompt_has_one_begin_of_text_token_though_template_and_tokenizer_both_write_one(bos_tokenizer):
    assert bos_tokenizer("hi").input_ids == [0, ord("h"), ord("i")]
    assert prompt.encode(bos_tokenizer, request("user")) == [0, ord("h"), ord("i")]


def test_messages_that_the_template_refuses_are_the_client_s_mistake_and_say_why(bos_tokenizer):
    with pytest.raises(InvalidRequest, match=r"messages: .*no system role here"):
        prompt.encode(bos_tokenizer, request("system", "user"))


def test_a_recurrent_model_needs_no_keys(tmp_path):
    small_model("mamba").save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(source.DEMO_FOLDER / name, tmp_path / name)
    model = loader.load(tmp_path, device="cpu")
    assert isinstance(model.runner, runner.SequentialRunner)
    assert model.kv_bytes_per_token == 1


@pytest.mark.parametrize(("device", "index"), [("cuda", None), ("cuda:1", 1)])
def test_the_memory_that_counts_is_that_of_the_gpu_that_was_chosen(monkeypatch, device, index):
    asked = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: asked.append(device) or (5, 9))
    assert machine.free_memory_bytes(device) == 5
    assert [each.index for each in asked] == [index]
