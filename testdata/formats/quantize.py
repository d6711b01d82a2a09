"""Writes quantized.json: what ggml's `ggml_quantize_chunk` makes of hard rows, with and without importance.

Call it with the path of a libggml-base.so (of llama.cpp, or of PyPI's llama-cpp-python).

A row has 768 elements. `number(seed)` is the top 24 bits of splitmix64's output for the seed, as an integer; `normal`
is the sum of four of them less its mean, times 2^-26. Element `i` of row `r` of kind `k` is as `KINDS` has it, and
tests/integration/codecs.rs likewise. Importance of kind 0 is none; 1 varies widely; 2 is zero for every third run of 16
elements; 3 is the same for all elements. For every type and kind of importance the first four bytes of the SHA-256 of
each row's bytes are written, rows one after the other.
"""

import ctypes
import hashlib
import json
import sys
from pathlib import Path

import numpy as np

COLS = 768
ROWS_OF_A_KIND = 2
# Names, ids, and whether a type cannot be written without importance.
TYPES = {
    "Q4_0": (2, False), "Q4_1": (3, False), "Q5_0": (6, False), "Q5_1": (7, False), "Q8_0": (8, False),
    "Q2_K": (10, False), "Q3_K": (11, False), "Q4_K": (12, False), "Q5_K": (13, False), "Q6_K": (14, False),
    "IQ2_XXS": (16, True), "IQ2_XS": (17, True), "IQ3_XXS": (18, False), "IQ1_S": (19, True), "IQ4_NL": (20, False),
    "IQ3_S": (21, False), "IQ2_S": (22, False), "IQ4_XS": (23, False), "IQ1_M": (29, False), "TQ1_0": (34, False),
    "TQ2_0": (35, False), "MXFP4": (39, False), "NVFP4": (40, False), "Q1_0": (41, False), "Q2_0": (42, False),
}


def number(seed: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        z = (seed + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.int64)


def power(exponents: np.ndarray) -> np.ndarray:
    return np.ldexp(np.float32(1), exponents).astype(np.float32)


def normal(row: int) -> np.ndarray:
    first = (np.arange(COLS, dtype=np.uint64) + np.uint64(row * COLS)) * np.uint64(4)
    total = sum(number(first + np.uint64(k)) for k in range(4)) - 2 * 0xFFFFFF
    # The float nearest to the integer, times a power of two.
    return total.astype(np.float32) * np.float32(2.0**-26)


I = np.arange(COLS)
KINDS = [
    lambda x: x,
    lambda x: np.where(I % 61 == 7, x * np.float32(64), x),
    lambda x: x * np.float32(2.0**-40),
    lambda x: np.full(COLS, 0.3125, np.float32),
    lambda x: np.where(I // 32 % 2 == 1, np.float32(0), x),
    lambda x: x * power(-3 * (I // 32 % 16)),
    lambda x: np.round(x * np.float32(16)) * np.float32(0.125),
    lambda x: np.abs(x),
    lambda x: -np.abs(x) - np.float32(0.5),
    lambda x: np.zeros(COLS, np.float32),
    lambda x: np.where(I % 256 == 77, x, np.float32(0)),
    lambda x: x * power(-12 - I // 8 % 24),
    lambda x: x * x * x,
    lambda x: x * np.float32(2.0**12),
]


def importance(kind: int, row: int) -> np.ndarray | None:
    if kind == 0:
        return None
    x = normal(row + 1_000_000)
    x = x * x + np.float32(2.0**-12)
    return [x, np.where(I // 16 % 3 == 1, np.float32(0), x), np.full(COLS, 0.75, np.float32)][kind - 1].astype(np.float32)


def main(library: str, path: Path, rows_of_a_kind: int) -> None:
    ggml = ctypes.CDLL(library)
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    ggml.ggml_row_size.restype = ctypes.c_size_t
    pointer = ctypes.c_void_p
    ggml.ggml_quantize_chunk.argtypes = [ctypes.c_int, pointer, pointer] + [ctypes.c_int64] * 3 + [pointer]
    ggml.ggml_row_size.argtypes = [ctypes.c_int, ctypes.c_int64]
    types = {}
    for name, (ty, needs_importance) in TYPES.items():
        out = np.zeros(ggml.ggml_row_size(ty, COLS), np.uint8)
        types[name] = {}
        for kind in range(needs_importance, 4):
            hashes = ""
            for row in range(len(KINDS) * rows_of_a_kind):
                x = np.ascontiguousarray(KINDS[row % len(KINDS)](normal(row)).astype(np.float32))
                weights = importance(kind, row)
                out[:] = 0
                ggml.ggml_quantize_chunk(
                    ty, x.ctypes.data, out.ctypes.data, 0, 1, COLS, None if weights is None else weights.ctypes.data
                )
                hashes += hashlib.sha256(out.tobytes()).hexdigest()[:8]
            types[name][str(kind)] = hashes
    golden = {"columns": COLS, "rows": len(KINDS) * rows_of_a_kind, "types": types}
    path.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main(
        sys.argv[1],
        Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).with_name("quantized.json"),
        int(sys.argv[3]) if len(sys.argv) > 3 else ROWS_OF_A_KIND,
    )
