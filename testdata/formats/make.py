"""Writes dequantized.json: what blocks of arbitrary bytes decode to, for every format.

Byte `i` of the blocks of type `id` is the top byte of `((id << 32) + i + 1) * 0x9e3779b97f4a7c15 mod 2^64` after one
xor with itself shifted right by 29 and one more product with 0xbf58476d1ce4e5b9. Scales that are no numbers stay: any
NaN is hashed as 0x7fc00000. `sha256` is that of all values, little-endian f32; `first` are the bits of the first eight.

PyPI's `gguf` decodes what it knows. Q1_0, Q2_0, Q8_1 and Q8_K, which it does not, are written down here as ggml-quants.c
has them.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
from gguf import quants
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

BLOCKS = 96


def block_bytes(type_id: int, count: int) -> np.ndarray:
    n = (np.uint64(type_id) << np.uint64(32)) + np.arange(1, count + 1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        z = n * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return (z >> np.uint64(56)).astype(np.uint8)


def half(blocks: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(blocks[:, :2]).view(np.float16).astype(np.float32)


def q1_0(blocks):
    bits = np.unpackbits(blocks[:, 2:], axis=1, bitorder="little")
    return np.where(bits == 1, half(blocks), -half(blocks))


def q2_0(blocks):
    codes = blocks[:, 2:, None] >> np.array([0, 2, 4, 6], dtype=np.uint8) & 3
    return (codes.reshape(len(blocks), -1).astype(np.int32) - 1).astype(np.float32) * half(blocks)


def q8_1(blocks):
    return blocks[:, 4:].view(np.int8).astype(np.float32) * half(blocks)


def q8_k(blocks):
    d = np.ascontiguousarray(blocks[:, :4]).view(np.float32)
    return blocks[:, 4:260].view(np.int8).astype(np.float32) * d


# Name: id, elements, bytes of a block, how it is decoded.
OWN = {
    "Q1_0": (41, 128, 18, q1_0),
    "Q2_0": (42, 64, 18, q2_0),
    "Q8_1": (9, 32, 36, q8_1),
    "Q8_K": (15, 256, 292, q8_k),
}

PYPI = (
    "F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ1_S IQ1_M IQ2_XXS IQ2_XS IQ2_S IQ3_XXS IQ3_S "
    "IQ4_NL IQ4_XS TQ1_0 TQ2_0 MXFP4 NVFP4"
).split()


def types():
    for name in PYPI:
        ty = GGMLQuantizationType[name]
        elements, size = GGML_QUANT_SIZES[ty]
        yield name, ty.value, elements, size, lambda blocks, ty=ty: quants.dequantize(blocks, ty)
    for name, (type_id, elements, size, decode) in OWN.items():
        yield name, type_id, elements, size, decode


def main(path: str) -> None:
    found = {}
    for name, type_id, elements, size, decode in types():
        blocks = block_bytes(type_id, BLOCKS * size).reshape(BLOCKS, size)
        with np.errstate(all="ignore"):
            values = np.ascontiguousarray(decode(blocks), dtype="<f4").reshape(-1)
        assert values.size == BLOCKS * elements, name
        bits = values.view("<u4").copy()
        bits[np.isnan(values)] = 0x7FC00000
        first = [f"{b:08x}" for b in bits[:8]]
        found[name] = {"first": first, "sha256": hashlib.sha256(bits.tobytes()).hexdigest()}
    rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in found.items())
    Path(path).write_text(f'{{\n"blocks": {BLOCKS},\n"types": {{\n{rows}\n}}\n}}\n')


if __name__ == "__main__":
    main(sys.argv[1])
