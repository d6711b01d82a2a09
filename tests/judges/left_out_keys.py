#!/usr/bin/env python3
"""What llama.cpp computes with files that lack a key: the numbers in testdata/left_out_keys.json.

    pip install llama-cpp-python==0.3.36
    GGUF_CHECKPOINTS=DIR cargo test --release --test integration checkpoints_are_written -- --ignored
    tests/judges/left_out_keys.py --gguf target/release/gguf --checkpoints DIR --out testdata/left_out_keys.json

DIR then holds one tiny checkpoint a family (the folders of testdata/arch with their weights). Each is converted to F32. Then, for
each key of its architecture, a copy of the file without that key is given to llama.cpp, with 32-bit keys and values and without
flash attention. Written are, for each key, "refused", "same" (the bits of the whole file) or some of the logits; the test
`left_out_keys` of the integration tests holds the loader to them. A file is run in a process of its own: llama.cpp aborts on
some of them.

    GGUF_CHECKPOINTS=DIR cargo test --release --test integration remote_code_files_are_written -- --ignored
    tests/judges/left_out_keys.py --files DIR --out testdata/remote_code.json

The same logits of whole files, as the list `files`; with `--list checkpoints`, those of the files (F32) that llama.cpp's converter makes of the
checkpoints in testdata/remote_code (Qwen 1's with `attention.layer_norm_rms_epsilon`, without which llama.cpp refuses it).
"""
import argparse, json, os, struct, subprocess, sys, tempfile

TOKENS = [229, 204, 16, 358, 64, 116, 334, 213, 201, 239, 44, 186, 157, 150, 245, 346, 137, 162, 191, 27, 113, 105, 9, 46]
# Logits that are written: of these positions and tokens.
POSITIONS, CHOSEN = [7, 15, 23], [5, 77, 200]
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


def end_of_value(b, kind, p):
    """Where the value of this type that begins at `p` ends."""
    if kind == 8:
        return p + 8 + struct.unpack_from('<Q', b, p)[0]
    if kind == 9:
        kind, n = struct.unpack_from('<IQ', b, p)
        p += 12
        if kind in SIZES:
            return p + n * SIZES[kind]
        for _ in range(n):
            p = end_of_value(b, kind, p)
        return p
    return p + SIZES[kind]


def parse(b):
    """The file's keys, name to (start, end), where the tensors' descriptions begin, and where their data begins."""
    magic, version, tensors, keys = struct.unpack_from('<4sIQQ', b)
    assert magic == b'GGUF' and version == 3
    p, found = 24, {}
    for _ in range(keys):
        start, n = p, struct.unpack_from('<Q', b, p)[0]
        name = b[p + 8:p + 8 + n].decode()
        p += 8 + n
        kind = struct.unpack_from('<I', b, p)[0]
        p = end_of_value(b, kind, p + 4)
        found[name] = (start, p)
    infos = p
    for _ in range(tensors):
        p += 8 + struct.unpack_from('<Q', b, p)[0]
        p += 4 + 8 * struct.unpack_from('<I', b, p)[0] + 12
    return found, infos, p, (p + 31) // 32 * 32


def without(b, name):
    """The file without a key."""
    found, _, end, data = parse(b)
    start, stop = found[name]
    head = bytearray(b[:start] + b[stop:end])
    struct.pack_into('<Q', head, 16, len(found) - 1)
    return bytes(head) + b'\0' * (-len(head) % 32) + b[data:]


def run(path, out):
    """Writes the logits of all positions to `out`."""
    import ctypes
    import llama_cpp as l
    quiet = l.llama_log_callback(lambda *_: None)
    l.llama_log_set(quiet, ctypes.c_void_p(0))
    l.llama_backend_init()
    params = l.llama_model_default_params()
    params.n_gpu_layers = 0
    model = l.llama_model_load_from_file(path.encode(), params)
    if not model:
        sys.exit(3)
    params = l.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = 64
    params.n_threads = params.n_threads_batch = 1
    params.flash_attn_type, params.type_k, params.type_v = 0, 0, 0
    context = l.llama_init_from_model(model, params)
    if not context:
        sys.exit(3)
    n = len(TOKENS)
    batch = l.llama_batch_init(n, 0, 1)
    for i, token in enumerate(TOKENS):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, i, 1, 1
        batch.seq_id[i][0] = 0
    batch.n_tokens = n
    if l.llama_decode(context, batch) != 0:
        sys.exit(3)
    vocab = l.llama_vocab_n_tokens(l.llama_model_get_vocab(model))
    logits = l.llama_get_logits(context)
    with open(out, 'wb') as f:
        f.write(struct.pack('<%df' % (n * vocab), *logits[:n * vocab]))


def logits(folder, data):
    """llama.cpp's logits of a file with these bytes; None where it refuses it."""
    path, out = os.path.join(folder, 'case.gguf'), os.path.join(folder, 'logits')
    with open(path, 'wb') as f:
        f.write(data)
    if os.path.exists(out):
        os.remove(out)
    subprocess.run([sys.executable, __file__, '--run', path, out], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if not os.path.exists(out):
        return None
    with open(out, 'rb') as f:
        b = f.read()
    return struct.unpack('<%df' % (len(b) // 4), b)


def some(values):
    """The logits that are written."""
    vocab = len(values) // len(TOKENS)
    return [round(values[p * vocab + t], 5) for p in POSITIONS for t in CHOSEN]


def family(folder, program, checkpoint):
    path = os.path.join(folder, 'whole.gguf')
    subprocess.run([program, 'convert', checkpoint, '-t', 'f32', '-o', path, '--force'], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with open(path, 'rb') as f:
        whole = f.read()
    keys = parse(whole)[0]
    base = logits(folder, whole)
    if base is None:
        return None
    result = {}
    start, stop = keys['general.architecture']
    prefix = whole[start + 8 + 20 + 12:stop].decode() + '.'
    for name in keys:
        if name.startswith(prefix):
            found = logits(folder, without(whole, name))
            result[name] = 'refused' if found is None else 'same' if found == base else some(found)
    return {'whole': some(base), 'without': result}


def whole_files(folder, out, name_of_list):
    lists, result = {}, {}
    if os.path.exists(out):
        with open(out) as f:
            known = json.load(f)
        lists = {key: known[key] for key in ("files", "checkpoints") if key in known}
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), 'rb') as f, tempfile.TemporaryDirectory() as place:
            result[name.removesuffix('.gguf')] = some(logits(place, f.read()))
    lists[name_of_list] = result
    with open(out, 'w') as f:
        f.write('{\n"source": "llama.cpp of llama-cpp-python 0.3.36; see tests/judges/left_out_keys.py",\n')
        f.write('"tokens": %s,\n"positions": %s,\n"chosen": %s,\n' % (json.dumps(TOKENS), json.dumps(POSITIONS), json.dumps(CHOSEN)))
        rows = lambda of: ',\n'.join('"%s": %s' % (name, json.dumps(x)) for name, x in of.items())
        f.write(',\n'.join('"%s": {\n%s\n}' % (name, rows(of)) for name, of in lists.items()) + '}\n')


def main():
    if sys.argv[1:2] == ['--run']:
        return run(*sys.argv[2:4])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--gguf')
    parser.add_argument('--checkpoints')
    parser.add_argument('--files')
    parser.add_argument('--list', choices=['files', 'checkpoints'], default='files')
    parser.add_argument('--out', required=True)
    parser.add_argument('names', nargs='*')
    options = parser.parse_args()
    if options.files:
        return whole_files(options.files, options.out, options.list)
    result = {}
    for name in options.names or sorted(os.listdir(options.checkpoints)):
        with tempfile.TemporaryDirectory() as folder:
            found = family(folder, options.gguf, os.path.join(options.checkpoints, name))
        if found is None:
            print('%s: llama.cpp refuses the whole file' % name)
            continue
        print('%s: %s' % (name, ', '.join('%s %s' % (k, v if isinstance(v, str) else 'differs') for k, v in found['without'].items())), flush=True)
        result[name] = found
    with open(options.out, 'w') as f:
        f.write('{\n"source": "llama.cpp of llama-cpp-python 0.3.36; see tests/judges/left_out_keys.py",\n')
        f.write('"tokens": %s,\n"positions": %s,\n"chosen": %s,\n"families": {\n' % (json.dumps(TOKENS), json.dumps(POSITIONS), json.dumps(CHOSEN)))
        f.write(',\n'.join('"%s": {"whole": %s, "without": {\n%s}}' % (
            name, json.dumps(x['whole']), ',\n'.join('  "%s": %s' % (k, json.dumps(v)) for k, v in x['without'].items())) for name, x in result.items()))
        f.write('\n}}\n')


if __name__ == '__main__':
    main()
