"""The files that say how a model makes a vector: all that can be done is read, all else ends the load with a reason."""

import pytest

from modelengine.errors import ModelLoadError
from modelengine.protocol import CHAT, EMBED, RERANK
from modelengine_runtime import checkpoint, pooling
from modelengine_runtime.pooling import Dense, Pipeline
from sentence_files import sentence_files, write

MODULE = "sentence_transformers.models."


def test_without_such_files_the_mean_is_taken_as_it_is(tmp_path, caplog):
    assert pooling.read(tmp_path) == Pipeline(modes=("mean",), normalizes=False)
    assert "the mean of the tokens' vectors is taken" in caplog.text


def test_all_that_the_files_say_is_read(tmp_path):
    sentence_files(
        tmp_path,
        pooling={"word_embedding_dimension": 4, "pooling_mode_cls_token": True, "include_prompt": False},
        dense=[{"in_features": 4, "out_features": 2, "bias": False, "activation_function": "torch.nn.Identity"}],
        config_sentence_transformers={"prompts": {"query": "q: ", "document": ""}, "default_prompt_name": "query"},
        sentence_bert_config={"max_seq_length": 128, "do_lower_case": True},
    )
    assert pooling.read(tmp_path) == Pipeline(
        modes=("cls",),
        pools_prompt=False,
        dense=(Dense(tmp_path / "2_Dense", 4, 2, False, "Identity"),),
        normalizes=True,
        prompts={"query": "q: ", "document": ""},
        default_prompt="query",
        max_length=128,
        lowercases=True,
    )


@pytest.mark.parametrize(
    ("config", "modes"),
    [
        ({"pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": False}, ("lasttoken",)),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, ("cls", "mean")),
        ({"embedding_dimension": 4, "pooling_mode": "mean"}, ("mean",)),
        ({"pooling_mode": ["weightedmean", "max"]}, ("max", "weightedmean")),
    ],
)
def test_old_and_new_files_name_the_same_ways_to_pool(tmp_path, config, modes):
    sentence_files(tmp_path, pooling=config)
    assert pooling.read(tmp_path).modes == modes


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"pooling_mode": "attention"}, "can't pool by attention"),
        ({"pooling_mode_new_tokens": True}, "can't pool by pooling_mode_new_tokens"),
        ({}, "can't pool by nothing"),
        ([], "must be an object"),
    ],
)
def test_a_way_to_pool_that_is_not_known_ends_the_load(tmp_path, config, said):
    sentence_files(tmp_path, pooling=config)
    with pytest.raises(ModelLoadError, match=said):
        pooling.read(tmp_path)


@pytest.mark.parametrize(
    ("modules", "said"),
    [
        ([{"type": f"{MODULE}Transformer", "path": ""}], "can't do Transformer;"),
        ([{"type": f"{MODULE}WordEmbeddings", "path": ""}, {"type": f"{MODULE}Pooling", "path": ""}], "WordEmbeddings"),
        ([{"type": "custom_st.Transformer", "path": ""}], "can't do custom_st.Transformer"),
        ([{"type": f"{MODULE}Transformer", "path": "../other"}], "leads out of the model's folder"),
        ([{"type": f"{MODULE}Transformer", "path": "/etc"}], "leads out of the model's folder"),
        ([{"type": f"{MODULE}Transformer", "path": "0"}, {"type": f"{MODULE}Pooling", "path": "1"}], "folder itself"),
        ({}, "must be a list"),
        ([1], "must be a list"),
    ],
)
def test_steps_that_can_not_be_done_end_the_load(tmp_path, modules, said):
    write(tmp_path / "modules.json", modules)
    with pytest.raises(ModelLoadError, match=said):
        pooling.read(tmp_path)


def test_steps_in_another_order_end_the_load(tmp_path):
    kinds = ["Transformer", "Normalize", "Pooling"]
    write(tmp_path / "modules.json", [{"type": MODULE + kind, "path": ""} for kind in kinds])
    with pytest.raises(ModelLoadError, match="can't do Transformer -> Normalize -> Pooling"):
        pooling.read(tmp_path)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"dense": [{"in_features": 1, "out_features": 1, "activation_function": "my.Swish"}]}, "activation Swish"),
        ({"dense": [{"in_features": 1}]}, "out_features must be whole numbers"),
        ({"config_sentence_transformers": {"prompts": {"query": 1}}}, "prompts must be texts"),
        ({"config_sentence_transformers": {"default_prompt_name": "query"}}, "'query' is none of no prompts"),
        ({"sentence_bert_config": {"max_seq_length": 0}}, "max_seq_length must be a whole number"),
        ({"sentence_bert_config": "{"}, "must be an object"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path, files, said):
    sentence_files(tmp_path, **files)
    with pytest.raises(ModelLoadError, match=said):
        pooling.read(tmp_path)


def test_a_file_that_is_no_json_is_named(tmp_path):
    sentence_files(tmp_path)
    (tmp_path / "1_Pooling" / "config.json").write_text("{")
    with pytest.raises(ModelLoadError, match=r"1_Pooling/config\.json: can't be read as JSON"):
        pooling.read(tmp_path)


@pytest.mark.parametrize(
    ("architecture", "has_modules", "protocol"),
    [
        ("Qwen3ForCausalLM", False, CHAT),
        ("GPT2LMHeadModel", False, CHAT),
        ("Qwen3ForCausalLM", True, EMBED),
        ("BertModel", False, EMBED),
        ("ModernBertForMaskedLM", False, EMBED),
        ("XLMRobertaForSequenceClassification", False, RERANK),
        ("XLMRobertaForSequenceClassification", True, RERANK),
        (None, True, EMBED),
        (None, False, None),
    ],
)
def test_the_architecture_says_what_a_model_suits(architecture, has_modules, protocol):
    assert checkpoint.suits(architecture, has_modules) == protocol


@pytest.mark.parametrize("config", [{}, {"architectures": []}, {"architectures": [1]}, {"architectures": "x"}, []])
def test_a_config_that_names_no_architecture_is_left_to_the_loader(tmp_path, config):
    write(tmp_path / "config.json", config)
    checkpoint.require(tmp_path, CHAT)


def test_a_model_of_another_kind_says_how_to_serve_it(tmp_path):
    write(tmp_path / "config.json", {"architectures": ["BertModel"]})
    checkpoint.require(tmp_path, EMBED)
    with pytest.raises(ModelLoadError, match=r"BertModel can't serve the protocol 'chat', it suits 'embed': set spec"):
        checkpoint.require(tmp_path, CHAT)
