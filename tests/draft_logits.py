"""Writes `testdata/arch/*mtp/drafts.safetensors`: what the layers that predict further tokens (MTP) make of the goldens' texts.

    python tests/draft_logits.py

It needs numpy and safetensors, and nothing of this project: weights are made by the rule of the goldens
(`tests/integration/goldens.rs`), and the hidden states that the model hands to the layer are those that its logits by transformers
come from (`expected.safetensors`; the output matrix has more rows than columns). All is computed in float64, after the
definition (DeepSeek V3, arXiv:2412.19437, section 2.2; the modules of vLLM for Qwen 3 Next and GLM 4.5).

`logits` has four rows: after the whole text, then after one to three drafted tokens, each the likeliest of the row before,
whose hidden state is the layer's own result after its norm. `tokens` are the likeliest ones.
"""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

ARCH = Path(__file__).parent.parent / "testdata" / "arch"
DRAFTED = 4
MASK = (1 << 64) - 1


def weight(name, shape):
    """A tensor of a golden."""
    state = 0xCBF29CE484222325
    for byte in name.encode():
        state = ((state ^ byte) * 0x100000001B3) & MASK
    state ^= 1
    out = np.empty(int(np.prod(shape)), np.float64)
    norm = "norm" in name.lower()
    base = 1.0 if name.endswith(".weight") else 0.0
    for i in range(len(out)):
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        u = ((z ^ (z >> 31)) >> 11) / (1 << 52) - 1.0
        out[i] = 2.0 * u / np.sqrt(shape[-1]) if len(shape) >= 2 else base + u / 4.0 if norm else u / 5.0
    return out.astype(np.float32).astype(np.float16).astype(np.float64).reshape(shape)


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def silu(x):
    return x * sigmoid(x)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


class Model:
    """The layer of one golden."""

    def __init__(self, folder):
        self.config = json.loads((folder / "config.json").read_text())
        self.shapes = json.loads((folder / "tensors.json").read_text())
        self.qwen = "mtp.fc.weight" in self.shapes
        names = {"layer": "mtp.layers.0.", "fc": "mtp.fc", "enorm": "mtp.pre_fc_norm_embedding",
                 "hnorm": "mtp.pre_fc_norm_hidden", "norm": "mtp.norm", "embed": "model.embed_tokens", "head": "lm_head"}
        if not self.qwen:
            own = f"model.layers.{self.config['num_hidden_layers']}."
            names = {"layer": own, "fc": own + "eh_proj", "enorm": own + "enorm", "hnorm": own + "hnorm",
                     "norm": own + "shared_head.norm", "embed": own + "embed_tokens", "head": own + "shared_head.head"}
        self.names = names
        self.entries = []

    def tensor(self, name):
        return weight(name, self.shapes[name])

    def linear(self, name, x):
        return x @ self.tensor(name + ".weight").T

    def norm(self, name, x):
        w = self.tensor(name + ".weight") + (1.0 if self.qwen else 0.0)
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.config["rms_norm_eps"]) * w

    def rotate(self, x, position):
        """`x`, `[heads, dim]`: the first part of a head, as two halves."""
        rotary = self.config["rope_parameters"]
        dims = int(x.shape[-1] * rotary["partial_rotary_factor"])
        half = dims // 2
        angles = position * rotary["rope_theta"] ** (-np.arange(half) * 2.0 / dims)
        a, b = x[:, :half], x[:, half:dims]
        turned = [a * np.cos(angles) - b * np.sin(angles), b * np.cos(angles) + a * np.sin(angles), x[:, dims:]]
        return np.concatenate(turned, -1)

    def attention(self, x, position):
        heads, kv_heads = self.config["num_attention_heads"], self.config["num_key_value_heads"]
        dim, own = self.config["head_dim"], self.names["layer"] + "self_attn."
        query = self.linear(own + "q_proj", x).reshape(heads, -1)
        query, gate = query[:, :dim], query[:, dim:]
        query = self.rotate(self.norm(own + "q_norm", query), position)
        key = self.rotate(self.norm(own + "k_norm", self.linear(own + "k_proj", x).reshape(kv_heads, dim)), position)
        self.entries.append((key, self.linear(own + "v_proj", x).reshape(kv_heads, dim)))
        out = []
        for head in range(heads):
            shared = head * kv_heads // heads
            keys = np.stack([k[shared] for k, _ in self.entries])
            values = np.stack([v[shared] for _, v in self.entries])
            out.append(softmax(keys @ query[head] / np.sqrt(dim)) @ values)
        out = np.stack(out)
        if self.qwen:
            out = out * sigmoid(gate)
        return self.linear(own + "o_proj", out.reshape(-1))

    def gated(self, name, x):
        return self.linear(name + ".down_proj", silu(self.linear(name + ".gate_proj", x)) * self.linear(name + ".up_proj", x))

    def feed_forward(self, x):
        own = self.names["layer"] + "mlp"
        if own + ".gate.weight" not in self.shapes:
            return self.gated(own, x)
        scores = self.linear(own + ".gate", x)
        scores = softmax(scores) if self.qwen else sigmoid(scores)
        choice = scores if self.qwen else scores + self.tensor(own + ".gate.e_score_correction_bias")
        chosen = np.argsort(-choice)[: self.config["num_experts_per_tok"]]
        weights = scores[chosen] / scores[chosen].sum() * self.config.get("routed_scaling_factor", 1.0)
        out = sum(w * self.gated(f"{own}.experts.{i}", x) for i, w in zip(chosen, weights))
        if self.qwen:
            gate = sigmoid(self.linear(own + ".shared_expert_gate", x))
            return out + gate * self.gated(own + ".shared_expert", x)
        return out + self.gated(own + ".shared_experts", x)

    def step(self, hidden, token):
        """Reads the hidden state of a position and the token after it. Returns the next hidden state."""
        position = len(self.entries)
        embedding = self.tensor(self.names["embed"] + ".weight")[token]
        both = np.concatenate([self.norm(self.names["enorm"], embedding), self.norm(self.names["hnorm"], hidden)])
        x = self.linear(self.names["fc"], both)
        x = x + self.attention(self.norm(self.names["layer"] + "input_layernorm", x), position)
        x = x + self.feed_forward(self.norm(self.names["layer"] + "post_attention_layernorm", x))
        return self.norm(self.names["norm"], x)


def main():
    for folder in sorted(ARCH.glob("*mtp")):
        model = Model(folder)
        expected = load_file(folder / "expected.safetensors")
        tokens = expected["input_ids"].reshape(-1).tolist()
        head = model.tensor("lm_head.weight")
        hidden = np.linalg.lstsq(head, expected["logits"].astype(np.float64).T, rcond=None)[0].T
        # The last token of the text is the one that was chosen last: its own hidden state is not known yet.
        for row, token in zip(hidden, tokens[1:]):
            state = model.step(row, token)
        rows, drafted = [], []
        for _ in range(DRAFTED):
            rows.append(model.linear(model.names["head"], state))
            drafted.append(int(rows[-1].argmax()))
            state = model.step(state, drafted[-1])
        tensors = {"logits": np.stack(rows).astype(np.float32), "tokens": np.array(drafted)}
        save_file(tensors, folder / "drafts.safetensors")
        print(folder.name, drafted)


main()
