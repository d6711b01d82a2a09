#!/usr/bin/env python3
"""What gguf-py makes of model cards: `python3 make.py > expected.json`, with gguf-py of llama.cpp on PYTHONPATH.

Each case is a card's front matter, the name of its folder, and the keys that `Metadata.load` and
`set_gguf_meta_model` write, in their order. The model has 1,200,000,000 parameters.
"""
import json
import pathlib
import tempfile

import gguf

PARAMETERS = 1_200_000_000

CARDS = [
    ("Foo-1B", "license: apache-2.0\n"),
    ("Foo-1B", "license: null\n"),
    ("Foo-1B", "license:\n- mit\n- apache-2.0\n"),
    ("Foo-1B", "license: other\nlicense_name: llama3\nlicense_link: https://example.org/LICENSE\n"),
    ("Foo-1B", "datasets:\n- org/some-data\n- https://huggingface.co/datasets-org/Big-Set-v1.0\n- https://example.org/set\n- plain\n"),
    ("Foo-1B", "dataset: org/one\n"),
    ("Foo-1B", "datasets:\n"),
    ("Foo-1B", "datasets: []\n"),
    ("Foo-1B", "datasets:\n- name: A\n  author: B\n  url: https://example.org\n  repo_url: https://example.org/repo\n"),
    ("Foo-1B", "base_model: meta-llama/Llama-3.2-1B-Instruct\n"),
    ("Foo-1B", "base_model:\n- meta-llama/Llama-3.2-1B\n- mistralai/Mistral-7B-v0.1\n"),
    ("Foo-1B", "base_model: https://huggingface.co/Foo/Bar-7B-v1.0\n"),
    ("Foo-1B", "base_model: https://huggingface.co/Foo/Bar-7B-v1.0/tree/main\n"),
    ("Foo-1B", "base_model: http://example.org/model\n"),
    ("Foo-1B", "base_model: Some Model\n"),
    ("Foo-1B", "base_model: ./local/path\n"),
    ("Foo-1B", "base_model: null\nbase_models: a/b\n"),
    ("Foo-1B", "base_models: [a/b-1B, c/d]\n"),
    ("Foo-1B", "base_model: 5\n"),
    ("Foo-1B", "base_model_sources:\n- name: Base\n  organization: Org\n  version: v2\n  doi: 10.1/x\n  uuid: '1'\n  description: d\n"),
    ("Foo-1B", "language: no\n"),
    ("Foo-1B", "language:\n- en\n- no\n- de\n"),
    ("Foo-1B", "language: en\nlanguages: [fr, it]\n"),
    ("Foo-1B", "tags: [a, 'b c']\npipeline_tag: text-generation\n"),
    ("Foo-1B", "tags: chat\n"),
    ("Foo-1B", "url: https://example.org\nrepo_url: https://example.org/repo\ndoi: 10.1/x\nuuid: abc\n"),
    ("Foo-1B", "model_url: https://example.org\nmodel_repo_url: https://example.org/r\nmodel_doi: 10.1/x\nmodel_uuid: abc\n"),
    ("Foo-1B", "model_description: A model.\n"),
    ("Foo-1B", "description: >\n  A model\n  of two lines.\n\n  And more.\nlicense: mit\n"),
    ("Foo-1B", "description: |\n  A model\n    of lines\nlicense: mit\n"),
    ("Foo-1B", "description: \"quoted \\u00e9 \\n\"\nname: 'it''s'\n"),
    ("Foo-1B", "name: Own Name\nauthor: Me\nversion: v1\norganization: Us\nfinetune: chat\nbasename: own\nsize_label: 2B\n"),
    ("Foo-1B", "model_name: Own Name\nmodel_author: Me\nmodel_version: v1\nmodel_organization: Us\nmodel_finetune: chat\nmodel_basename: own\nmodel_size_label: 2B\n"),
    ("Foo-1B", "model_creator: Me\nmodel_type: llama\n"),
    ("Foo-1B", "name: null\nmodel_name: Second\n"),
    ("Foo-1B", "# a comment\nlicense: mit # another\ntags: # list\n  - a # item\n"),
    ("Foo-1B", "model-index:\n- name: x\n  results:\n  - task:\n      type: text\n    metrics:\n    - value: 1.5\nlicense: mit\n"),
    ("Foo-1B", "widget:\n- text: 'a: b'\n  example_title: [1, 2]\ntags:\n- x\n"),
    ("Foo-1B", "extra_gated_fields:\n  Country: country\n  I agree: checkbox\nlicense: gemma\nlibrary_name: transformers\n"),
    ("Foo-1B", "tags: &t [a, b]\nlanguage: *t\n"),
    ("Foo-1B", "tags:\n\t- a\n\t- b\n"),
    ("Foo-1B", "license: mit\nlicense: apache-2.0\n"),
    ("Llama-3.2-1B-Instruct", "base_model: meta-llama/Llama-3.2-1B\ntags:\n- facebook\n- meta\n- pytorch\n"),
    ("Qwen3-30B-A3B-Thinking-2507", "{}\n"),
    ("phi-3-mini-4k-instruct", "license: mit\n"),
    ("bloom-7b1", "[]\n"),
    ("my model folder", "license: mit\n"),
]

cases = []
with tempfile.TemporaryDirectory() as root:
    for i, (name, card) in enumerate(CARDS):
        folder = pathlib.Path(root) / str(i) / name
        folder.mkdir(parents=True)
        (folder / "README.md").write_text(f"---\n{card}---\n# Title\n", encoding="utf-8")
        metadata = gguf.Metadata.load(None, folder, None, PARAMETERS)
        writer = gguf.GGUFWriter(None, "llama")
        before = set(writer.kv_data[0])
        metadata.set_gguf_meta_model(writer)
        keys = [[key, value.value] for key, value in writer.kv_data[0].items() if key not in before]
        cases.append({"folder": name, "card": card, "keys": keys})
print("[\n" + ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases) + "\n]")
