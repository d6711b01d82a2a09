#!/usr/bin/env python3
"""Starts `gguf serve` with llama-server's options: what llama.cpp's own server tests start.

LLAMA_SERVER_BIN_PATH=tests/clients/as_llama_server.py GGUF=target/release/gguf PORT=18300 python -m pytest -q -m "not slow" unit/..."""
import os
import sys

RENAMED = {
    "--port": "--port", "--host": "--host", "--seed": "--seed", "--temp": "--temperature", "--alias": "--alias", "-a": "--alias",
    "--ctx-size": "--ctx", "-c": "--ctx", "--parallel": "--parallel", "-np": "--parallel", "--n-predict": "--max-tokens",
    "-n": "--max-tokens", "--threads": "--threads", "-t": "--threads", "--api-key": "--api-key", "--pooling": "--pooling",
    "--chat-template": "--chat-template", "--chat-template-file": "--chat-template", "--cors-origins": "--allow-origin",
    "--tags": "--tag", "--sleep-idle-seconds": "--keep-alive", "--slot-save-path": "--slot-save-path",
}
# llama-server's sets are in alphabetical order, and the first of its aliases is the model's id.
SETS = ("--alias", "-a", "--tags")
LISTS = (*SETS, "--api-key", "--cors-origins")
# Options without a value.
FLAGS = {"--no-slots": "--no-slots", "--no-ui": "--no-page", "--verbose": "--verbose", "-v": "--verbose"}
REASONING = {"on": ["--think"], "off": ["--no-think"], "auto": []}
# Options with a value that changes nothing here.
VALUED = {
    "--batch-size", "-b", "--ubatch-size", "-ub", "--n-gpu-layers", "-ngl", "-ctk", "-ctv", "-fa", "--cache-ram",
    "--reasoning-format", "--tools", "--spec-draft-n-max", "--spec-draft-n-min", "--media-path", "--keep", "--hf-repo", "--hf-file",
}

model, options, rest = None, ["--any-model"], sys.argv[1:]
while rest:
    option = rest.pop(0)
    if option in ("--model", "-m"):
        model = rest.pop(0)
    elif option in FLAGS:
        options.append(FLAGS[option])
    elif option == "--reasoning":
        options += REASONING[rest.pop(0)]
    elif option in RENAMED and not (rest and rest[0].startswith("-") and RENAMED[option] == "--max-tokens"):
        value = rest.pop(0)
        values = value.split(",") if option in LISTS else [value]
        for one in sorted(set(values)) if option in SETS else values:
            options += [f"{RENAMED[option]}={one}"]
    elif option in VALUED or option in RENAMED:
        rest.pop(0)
# Figures are told where that is asked for.
if "--metrics" not in sys.argv:
    options.append("--no-metrics")
# Pages of all origins may ask, where the server has no tools.
if "--cors-origins" not in sys.argv:
    options.append("--allow-origin=localhost" if "--tools" in sys.argv else "--allow-origin=*")
# The context of llama-server is divided among its slots.
ctx = next((i for i, o in enumerate(options) if o.startswith("--ctx=")), None)
parallel = next((int(o.split("=")[1]) for o in options if o.startswith("--parallel=")), None)
if ctx is not None and parallel and "--kv-unified" not in sys.argv:
    options[ctx] = f"--ctx={int(options[ctx].split('=')[1]) // parallel}"
gguf = os.environ.get("GGUF", "gguf")
os.execv(gguf, [gguf, "serve", *([model] if model else []), *options])
