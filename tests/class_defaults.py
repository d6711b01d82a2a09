"""Writes what transformers' configuration classes give for settings that a config.json leaves out.

    python tests/class_defaults.py

Needs transformers 5.24.0, without torch. Writes two files:
- src/arch/class_defaults.json: of each class its defaults, before those that follow from other settings;
- testdata/absent-settings.json: for each checkpoint of testdata/arch what
  `AutoConfig.from_pretrained(folder).to_dict()` makes of its config.json without one of its settings: the same as of
  the whole, other values, or an error.
"""

import copy
import dataclasses
import json
import logging
import pathlib
import tempfile

import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

logging.disable(logging.CRITICAL)
ROOT = pathlib.Path(__file__).parent.parent
assert transformers.__version__ == "5.24.0", transformers.__version__

# The configuration class, by its model_type, of the text part of each model class that can be converted.
CLASSES = {
    "AfmoeForCausalLM": "afmoe",
    "ApertusForCausalLM": "apertus",
    "ArceeForCausalLM": "arcee",
    "BambaForCausalLM": "bamba",
    "BertModel": "bert",
    "BertForMaskedLM": "bert",
    "BertForSequenceClassification": "bert",
    "DeepseekV32ForCausalLM": "deepseek_v32",
    "GlmMoeDsaForCausalLM": "glm_moe_dsa",
    "DistilBertModel": "distilbert",
    "BloomForCausalLM": "bloom",
    "EuroBertModel": "eurobert",
    "FalconH1ForCausalLM": "falcon_h1",
    "FalconMambaForCausalLM": "falcon_mamba",
    "Gemma3TextModel": "gemma3_text",
    "JambaForCausalLM": "jamba",
    "KimiLinearForCausalLM": "kimi_linear",
    "MambaForCausalLM": "mamba",
    "ModernBertForSequenceClassification": "modernbert",
    "ModernBertModel": "modernbert",
    "MPTForCausalLM": "mpt",
    "MptForCausalLM": "mpt",
    "NemotronHForCausalLM": "nemotron_h",
    "NomicBertModel": "nomic_bert",
    "PhiMoEForCausalLM": "phimoe",
    "PhimoeForCausalLM": "phimoe",
    "RobertaForSequenceClassification": "roberta",
    "RobertaModel": "roberta",
    "XLMRobertaForSequenceClassification": "xlm-roberta",
    "XLMRobertaModel": "xlm-roberta",
    "Cohere2ForCausalLM": "cohere2",
    "Cohere2MoeForCausalLM": "cohere2_moe",
    "CohereForCausalLM": "cohere",
    "DbrxForCausalLM": "dbrx",
    "DeepseekV2ForCausalLM": "deepseek_v2",
    "DeepseekV3ForCausalLM": "deepseek_v3",
    "Dots1ForCausalLM": "dots1",
    "Ernie4_5_ForCausalLM": "ernie4_5",
    "Ernie4_5_MoeForCausalLM": "ernie4_5_moe",
    "Ernie4_5ForCausalLM": "ernie4_5",
    "Exaone4ForCausalLM": "exaone4",
    "ExaoneForCausalLM": "exaone",
    "ExaoneMoeForCausalLM": "exaone_moe",
    "ExaoneMoEForCausalLM": "exaone_moe",
    "FalconForCausalLM": "falcon",
    "Gemma2ForCausalLM": "gemma2",
    "Gemma3ForCausalLM": "gemma3_text",
    "Gemma3ForConditionalGeneration": "gemma3_text",
    "Gemma3nForCausalLM": "gemma3n_text",
    "Gemma3nForConditionalGeneration": "gemma3n_text",
    "Gemma4ForCausalLM": "gemma4_text",
    "Gemma4ForConditionalGeneration": "gemma4_text",
    "GemmaForCausalLM": "gemma",
    "Glm4ForCausalLM": "glm4",
    "Glm4MoeForCausalLM": "glm4_moe",
    "Glm4MoeLiteForCausalLM": "glm4_moe_lite",
    "GlmForCausalLM": "glm",
    "GPT2LMHeadModel": "gpt2",
    "GPTBigCodeForCausalLM": "gpt_bigcode",
    "GPTNeoXForCausalLM": "gpt_neox",
    "GptOssForCausalLM": "gpt_oss",
    "GraniteForCausalLM": "granite",
    "GraniteMoeForCausalLM": "granitemoe",
    "GraniteMoeHybridForCausalLM": "granitemoehybrid",
    "GraniteMoeSharedForCausalLM": "granitemoeshared",
    "GraniteMoeSWAForCausalLM": "granitemoe_swa",
    "GraniteSWAForCausalLM": "granite_swa",
    "HunYuanDenseV1ForCausalLM": "hunyuan_v1_dense",
    "HunYuanMoEV1ForCausalLM": "hunyuan_v1_moe",
    "HYV3ForCausalLM": "hy_v3",
    "Jais2ForCausalLM": "jais2",
    "LagunaForCausalLM": "laguna",
    "Lfm2ForCausalLM": "lfm2",
    "LFM2ForCausalLM": "lfm2",
    "Lfm2MoeForCausalLM": "lfm2_moe",
    "Lfm2VlForConditionalGeneration": "lfm2",
    "Llama4ForCausalLM": "llama4_text",
    "Llama4ForConditionalGeneration": "llama4_text",
    "LlamaForCausalLM": "llama",
    "LLaMAForCausalLM": "llama",
    "LlavaStableLMEpochForCausalLM": "stablelm",
    "Mamba2ForCausalLM": "mamba2",
    "MellumForCausalLM": "mellum",
    "MiMoV2FlashForCausalLM": "mimo_v2_flash",
    "MiniCPM3ForCausalLM": "minicpm3",
    "MiniMaxM2ForCausalLM": "minimax_m2",
    "Ministral3ForCausalLM": "ministral3",
    "Mistral3ForConditionalGeneration": "mistral",
    "Mistral4ForCausalLM": "mistral4",
    "MistralForCausalLM": "mistral",
    "MixtralForCausalLM": "mixtral",
    "NemotronForCausalLM": "nemotron",
    "Olmo2ForCausalLM": "olmo2",
    "Olmo3ForCausalLM": "olmo3",
    "OlmoeForCausalLM": "olmoe",
    "OlmoForCausalLM": "olmo",
    "Phi3ForCausalLM": "phi3",
    "PhiForCausalLM": "phi",
    "Qwen2_5_VLForConditionalGeneration": "qwen2_5_vl_text",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen2MoeForCausalLM": "qwen2_moe",
    "Qwen2VLForConditionalGeneration": "qwen2_vl_text",
    "Qwen3_5ForCausalLM": "qwen3_5_text",
    "Qwen3_5ForConditionalGeneration": "qwen3_5_text",
    "Qwen3_5MoeForCausalLM": "qwen3_5_moe_text",
    "Qwen3_5MoeForConditionalGeneration": "qwen3_5_moe_text",
    "Qwen3ForCausalLM": "qwen3",
    "Qwen3MoeForCausalLM": "qwen3_moe",
    "Qwen3NextForCausalLM": "qwen3_next",
    "Qwen3VLForConditionalGeneration": "qwen3_vl_text",
    "Qwen3VLMoeForConditionalGeneration": "qwen3_vl_moe_text",
    "RWForCausalLM": "falcon",
    "SeedOssForCausalLM": "seed_oss",
    "SmolLM3ForCausalLM": "smollm3",
    "SolarOpenForCausalLM": "solar_open",
    "StableLMEpochForCausalLM": "stablelm",
    "StableLmForCausalLM": "stablelm",
    "Starcoder2ForCausalLM": "starcoder2",
}

# Settings of training and generation, and what the tensors say better than a default does.
LEFT_OUT = {
    "initializer_range", "use_cache", "is_decoder", "output_router_logits", "router_aux_loss_coef",
    "router_jitter_noise", "pretraining_tp", "reorder_and_upcast_attn", "mamba_chunk_size", "tie_word_embeddings",
    "classifier_dropout",
}  # fmt: skip
LEFT_OUT_ENDS = ("_dropout", "_pdrop", "_token_id")
LEFT_OUT_STARTS = ("summary_",)


def is_idle(name):
    return name in LEFT_OUT or name.endswith(LEFT_OUT_ENDS) or name.startswith(LEFT_OUT_STARTS)


def plain(value):
    """As JSON has it: infinity as transformers writes it into config.json."""
    if isinstance(value, float) and value == float("inf"):
        return "Infinity"
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    return value


def defaults(model_type):
    of = CONFIG_MAPPING[model_type]
    base = {field.name for field in dataclasses.fields(transformers.PreTrainedConfig)}
    settings = {}
    for field in dataclasses.fields(of):
        name = of.attribute_map.get(field.name, field.name)
        if field.name not in base and name != "rope_parameters" and not is_idle(name) and field.default not in (None, dataclasses.MISSING):
            settings[name] = plain(field.default)
    # Objects within are read as settings with dots in their names.
    for part, inner in of.sub_configs.items():
        names = {field.name for field in dataclasses.fields(inner)} - base - {"hidden_size"}
        for name in sorted(names):
            value = getattr(inner(), name)
            if part.endswith(("attn_config", "ffn_config")) and value is not None and not is_idle(name):
                settings[f"{part}.{name}"] = plain(value)
    entry = {"settings": settings}
    if "rope_parameters" in {field.name for field in dataclasses.fields(of)}:
        # What it is where nothing is said, and what is added to what is said.
        entry["rope"] = plain(of().to_dict()["rope_parameters"])
        given = of(rope_parameters={"rope_type": "default"}) if model_type not in ("gemma4_text", "modernbert") else None
        added = plain(given.to_dict()["rope_parameters"]) if given else {}
        entry["added"] = {name: value for name, value in added.items() if name != "rope_type"}
    return entry


def line(name, value, last):
    return f"  {json.dumps(name)}: {json.dumps(value, sort_keys=True)}{'' if last else ','}\n"


def table(path, entries):
    names = sorted(entries)
    text = "".join(line(name, entries[name], name == names[-1]) for name in names)
    path.write_text("{\n" + text + "}\n")


def loaded(config):
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "config.json").write_text(json.dumps(config))
        try:
            return plain(transformers.AutoConfig.from_pretrained(folder).to_dict())
        except Exception:
            return None


def places(settings, at=()):
    for name, value in settings.items():
        yield (*at, name)
        if isinstance(value, dict) and name != "per_layer_config":
            yield from places(value, (*at, name))


def absent(config):
    whole = loaded(config)
    same, other, refused = [], {}, []
    for place in places(config):
        if place[-1].endswith("_token_id"):
            continue
        changed = copy.deepcopy(config)
        inner = changed
        for name in place[:-1]:
            inner = inner[name]
        del inner[place[-1]]
        settings = loaded(changed)
        names = {name for name in whole | (settings or {}) if whole.get(name) != (settings or {}).get(name)}
        names -= {"_name_or_path", "architectures", "dtype"}
        differ = {name: settings.get(name) for name in sorted(names) if settings and not is_idle(name)}
        place = "/".join(place)
        if settings is None:
            refused.append(place)
        elif differ:
            other[place] = differ
        else:
            same.append(place)
    return {"other": other, "refused": refused, "same": same}


table(ROOT / "src/arch/class_defaults.json", {
    "classes": CLASSES,
    **{model_type: defaults(model_type) for model_type in sorted(set(CLASSES.values()))},
})
table(ROOT / "testdata/absent-settings.json", {
    folder.name: absent(json.loads((folder / "config.json").read_text()))
    for folder in sorted((ROOT / "testdata/arch").iterdir())
})
