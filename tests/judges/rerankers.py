#!/usr/bin/env python3
"""Scores of tiny rerankers, computed in numpy: the numbers in testdata/rerankers.json.

    pip install numpy==2.4.6 tokenizers==0.23.3
    tests/judges/rerankers.py testdata/rerankers.json

Each is one of testdata/encoders with a classification head. Weights are the function of name and shape that
tests/integration/goldens.rs has, rounded to F16; the networks are written down here from the papers and from transformers'
models (`modeling_bert.py`, `modeling_xlm_roberta.py`, `modeling_modernbert.py`, `modeling_qwen3.py`), in double precision.
Pairs become tokens with Hugging Face's tokenizers, Qwen's in the prompt of its model card. The test `rerankers` of the
integration tests converts the same checkpoints and holds `gguf rerank` to these scores.
"""
import json, math, pathlib, sys

import numpy as np
from tokenizers import Tokenizer

ENCODERS = pathlib.Path(__file__).parent.parent.parent / 'testdata' / 'encoders'
QUERY = 'Who walked down to the sea?'
DOCUMENTS = [
    'The old lighthouse keeper walked slowly down to the sea.',
    "Rain at 7 o'clock, then a clear sky!",
    '"Who took my blue boat?" asked Mira; nobody answered her.',
    'The sea.',
]
PROMPT = (
    '<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct provided. '
    'Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n<Instruct>: Given a web search query, '
    'retrieve relevant passages that answer the query\n<Query>: {query}\n<Document>: {document}<|im_end|>\n'
    '<|im_start|>assistant\n<think>\n\n</think>\n\n'
)
LABEL = {'id2label': {'0': 'LABEL_0'}}
# What makes a reranker of an encoder: settings, a prefix of its tensors, further tensors, tokens under other names.
MODELS = {
    'bert': {
        'encoder': 'bert', 'config': {'architectures': ['BertForSequenceClassification'], **LABEL}, 'prefix': 'bert.',
        'tensors': {'classifier.weight': [1, 64], 'classifier.bias': [1]}, 'tokens': {},
    },
    'xlmroberta': {
        'encoder': 'xlmroberta', 'config': {'architectures': ['XLMRobertaForSequenceClassification'], **LABEL},
        'prefix': 'roberta.',
        'tensors': {
            'classifier.dense.weight': [64, 64], 'classifier.dense.bias': [64],
            'classifier.out_proj.weight': [1, 64], 'classifier.out_proj.bias': [1],
        },
        'tokens': {},
    },
    'modernbert': {
        'encoder': 'modernbert',
        'config': {
            'architectures': ['ModernBertForSequenceClassification'], 'classifier_pooling': 'mean', 'num_labels': 1,
            'id2label': {'0': 'LABEL_0'},
        },
        'prefix': 'model.',
        'tensors': {
            'head.dense.weight': [64, 64], 'head.norm.weight': [64],
            'classifier.weight': [1, 64], 'classifier.bias': [1],
        },
        'tokens': {},
    },
    'qwen3-reranker': {
        'encoder': 'qwen3embed', 'config': {}, 'prefix': '', 'tensors': {}, 'tokens': {'Ā': 'yes', 'ā': 'no'},
    },
}


def weights(name, shape):
    """Element i is u(i) in [-1, 1): SplitMix64 from FNV-1a of the name, seed 1."""
    h = 0xcbf29ce484222325
    for byte in name.encode():
        h = ((h ^ byte) * 0x100000001b3) & (1 << 64) - 1
    count = math.prod(shape)
    with np.errstate(over='ignore'):
        z = np.uint64(h ^ 1) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9e3779b97f4a7c15)
        z = (z ^ z >> np.uint64(30)) * np.uint64(0xbf58476d1ce4e5b9)
        z = (z ^ z >> np.uint64(27)) * np.uint64(0x94d049bb133111eb)
        z = z ^ z >> np.uint64(31)
    u = (z >> np.uint64(11)).astype(np.float64) / 2.0**52 - 1
    if len(shape) >= 2:
        u = 2 * u / math.sqrt(shape[-1])
    elif 'norm' in name.lower() or '.ln_' in name:
        u = (1.0 if name.endswith('.weight') else 0.0) + u / 4
    else:
        u = u / 5
    return u.astype(np.float32).astype(np.float16).astype(np.float64).reshape(shape)


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def layer_norm(x, weight, bias, epsilon):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon) * weight + bias


def rms_norm(x, weight, epsilon):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon) * weight


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def rotate(x, theta):
    """Rotary embedding of halves; x is [positions, heads, head]."""
    n, half = x.shape[0], x.shape[2] // 2
    angles = np.arange(n)[:, None] * theta ** (-np.arange(half) / half)[None, :]
    cos, sin = np.cos(angles)[:, None, :], np.sin(angles)[:, None, :]
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)


def attention(q, k, v, sees):
    """q is [positions, heads, head]; k and v may have fewer heads; sees is [positions, positions]."""
    groups = q.shape[1] // k.shape[1]
    out = np.empty_like(q)
    for head in range(q.shape[1]):
        scores = q[:, head] @ k[:, head // groups].T / math.sqrt(q.shape[2])
        out[:, head] = softmax(np.where(sees, scores, -np.inf)) @ v[:, head // groups]
    return out.reshape(len(q), -1)


def heads(x, count):
    return x.reshape(len(x), count, -1)


def bert(w, config, ids, types, first_position):
    def linear(x, name):
        return x @ w(name + '.weight').T + w(name + '.bias')

    def norm(x, name):
        return layer_norm(x, w(name + '.weight'), w(name + '.bias'), config['layer_norm_eps'])

    n, count = len(ids), config['num_attention_heads']
    x = w('embeddings.word_embeddings.weight')[ids] + w('embeddings.token_type_embeddings.weight')[types]
    x = norm(x + w('embeddings.position_embeddings.weight')[first_position:first_position + n], 'embeddings.LayerNorm')
    for i in range(config['num_hidden_layers']):
        at = f'encoder.layer.{i}.'
        q, k, v = (heads(linear(x, at + 'attention.self.' + part), count) for part in ('query', 'key', 'value'))
        mixed = attention(q, k, v, np.ones((n, n), bool))
        x = norm(x + linear(mixed, at + 'attention.output.dense'), at + 'attention.output.LayerNorm')
        hidden = gelu(linear(x, at + 'intermediate.dense'))
        x = norm(x + linear(hidden, at + 'output.dense'), at + 'output.LayerNorm')
    return x


def modernbert(w, config, ids):
    def norm(x, name):
        return layer_norm(x, w(name + '.weight'), 0, config['norm_eps'])

    n, count = len(ids), config['num_attention_heads']
    apart = np.abs(np.arange(n)[:, None] - np.arange(n)[None, :])
    x = norm(w('embeddings.tok_embeddings.weight')[ids], 'embeddings.norm')
    for i, kind in enumerate(config['layer_types']):
        at = f'layers.{i}.'
        qkv = (norm(x, at + 'attn_norm') if i else x) @ w(at + 'attn.Wqkv.weight').T
        q, k, v = (heads(part, count) for part in np.split(qkv, 3, -1))
        theta = config['rope_parameters'][kind]['rope_theta']
        sees = apart <= (config['local_attention'] // 2 if kind == 'sliding_attention' else n)
        x = x + attention(rotate(q, theta), rotate(k, theta), v, sees) @ w(at + 'attn.Wo.weight').T
        act, up = np.split(norm(x, at + 'mlp_norm') @ w(at + 'mlp.Wi.weight').T, 2, -1)
        x = x + (gelu(act) * up) @ w(at + 'mlp.Wo.weight').T
    return norm(x, 'final_norm')


def qwen3(w, config, ids):
    def norm(x, name):
        return rms_norm(x, w(name + '.weight'), config['rms_norm_eps'])

    n, theta = len(ids), config['rope_parameters']['rope_theta']
    sees = np.arange(n)[:, None] >= np.arange(n)[None, :]
    x = w('embed_tokens.weight')[ids]
    for i in range(config['num_hidden_layers']):
        at = f'layers.{i}.'
        y = norm(x, at + 'input_layernorm')
        q = heads(y @ w(at + 'self_attn.q_proj.weight').T, config['num_attention_heads'])
        k = heads(y @ w(at + 'self_attn.k_proj.weight').T, config['num_key_value_heads'])
        v = heads(y @ w(at + 'self_attn.v_proj.weight').T, config['num_key_value_heads'])
        q, k = norm(q, at + 'self_attn.q_norm'), norm(k, at + 'self_attn.k_norm')
        x = x + attention(rotate(q, theta), rotate(k, theta), v, sees) @ w(at + 'self_attn.o_proj.weight').T
        y = norm(x, at + 'post_attention_layernorm')
        gate = y @ w(at + 'mlp.gate_proj.weight').T
        x = x + (gate / (1 + np.exp(-gate)) * (y @ w(at + 'mlp.up_proj.weight').T)) @ w(at + 'mlp.down_proj.weight').T
    return norm(x, 'norm')


def score(name, spec, tensors, config, tokenizer, document):
    cache = {}

    def w(part, prefix='model.' if name == 'qwen3-reranker' else spec['prefix']):
        full = prefix + part
        if full not in cache:
            cache[full] = weights(full, tensors[full])
        return cache[full]

    def head(part):
        return w(part, '')

    if name == 'qwen3-reranker':
        ids = tokenizer.encode(PROMPT.replace('{query}', QUERY).replace('{document}', document)).ids
        last = qwen3(w, config, ids)[-1]
        rows = w('embed_tokens.weight')[[tokenizer.token_to_id('yes'), tokenizer.token_to_id('no')]]
        return ids, softmax(rows @ last)[0]
    pair = tokenizer.encode(QUERY, document)
    ids = pair.ids
    if name == 'modernbert':
        hidden = modernbert(w, config, ids).mean(0)
        hidden = gelu(hidden @ head('head.dense.weight').T)
        hidden = layer_norm(hidden, head('head.norm.weight'), 0, config['norm_eps'])
        return ids, (hidden @ head('classifier.weight').T + head('classifier.bias'))[0]
    if name == 'bert':
        first = bert(w, config, ids, pair.type_ids, 0)[0]
        pooled = np.tanh(first @ w('pooler.dense.weight').T + w('pooler.dense.bias'))
        return ids, (pooled @ head('classifier.weight').T + head('classifier.bias'))[0]
    first = bert(w, config, ids, [0] * len(ids), config['pad_token_id'] + 1)[0]
    hidden = np.tanh(first @ head('classifier.dense.weight').T + head('classifier.dense.bias'))
    return ids, (hidden @ head('classifier.out_proj.weight').T + head('classifier.out_proj.bias'))[0]


def judge(name, spec):
    folder = ENCODERS / spec['encoder']
    config = {**json.loads((folder / 'config.json').read_text()), **spec['config']}
    shapes = json.loads((folder / 'tensors.json').read_text())
    tensors = {spec['prefix'] + tensor: shape for tensor, shape in shapes.items()} | spec['tensors']
    text = (folder / 'tokenizer.json').read_text()
    for old, new in spec['tokens'].items():
        text = text.replace(json.dumps(old, ensure_ascii=False) + ':', json.dumps(new) + ':')
    tokenizer = Tokenizer.from_str(text)
    found = [score(name, spec, tensors, config, tokenizer, document) for document in DOCUMENTS]
    return {**spec, 'ids': [ids for ids, _ in found], 'scores': [round(float(x), 6) for _, x in found]}


def main():
    models = {name: judge(name, spec) for name, spec in MODELS.items()}
    lines = [f'{json.dumps(name)}: {json.dumps(model, ensure_ascii=False)}' for name, model in models.items()]
    head = {'source': 'numpy; see tests/judges/rerankers.py', 'query': QUERY, 'documents': DOCUMENTS}
    parts = [f'{json.dumps(key)}: {json.dumps(value)}' for key, value in head.items()]
    text = '{\n' + ',\n'.join(parts) + ',\n"models": {\n' + ',\n'.join(lines) + '\n}\n}\n'
    pathlib.Path(sys.argv[1]).write_text(text)


main()
