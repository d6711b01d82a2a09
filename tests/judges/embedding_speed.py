#!/usr/bin/env python3
"""Texts a second of `gguf serve` and llama-server's /v1/embeddings, in turns: docs/performance.md, "Embeddings".

python tests/judges/embedding_speed.py --gguf target/release/gguf --llama-server PATH --model minilm-q8_0.gguf --text wikitext.txt

Needs no packages. The texts are pieces of the file, in words; each request has 64 of them. Prints the median of the rounds, and how
near the vectors of both are (the smallest cosine).
"""
import argparse
import http.client
import json
import math
import statistics
import subprocess
import sys
import time


def start(command, port):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(300):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return process
        except OSError:
            pass
        time.sleep(0.1)
    sys.exit(f"{command[0]}: did not start")


def embed(port, texts):
    vectors, start_time = [], time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    for i in range(0, len(texts), 64):
        connection.request("POST", "/v1/embeddings", json.dumps({"model": "m", "input": texts[i:i + 64]}), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        body = json.loads(answer.read())
        if answer.status != 200:
            sys.exit(f"{answer.status}: {body}")
        vectors += [item["embedding"] for item in body["data"]]
    return time.perf_counter() - start_time, vectors


def main():
    parser = argparse.ArgumentParser()
    for name in ("gguf", "llama-server", "model", "text"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    servers = {
        "gguf": (18701, [args.gguf, "serve", args.model, "--port", "18701", "--any-model"]),
        "llama": (18702, [args.llama_server, "-m", args.model, "--port", "18702", "--embedding", "-t", "2", "-c", "8192", "-b", "2048", "-ub", "2048", "-np", "16"]),
    }
    processes = [start(command, port) for port, command in servers.values()]
    words = open(args.text, encoding="utf-8").read().split()
    try:
        for length, count in ((16, 1024), (64, 512), (180, 192)):
            texts = [" ".join(words[i * length:(i + 1) * length]) for i in range(count)]
            times = {name: [] for name in servers}
            for _ in range(args.rounds):
                vectors = {}
                for name, (port, _) in servers.items():
                    took, vectors[name] = embed(port, texts)
                    times[name].append(took)
            rates = {name: count / statistics.median(all_times) for name, all_times in times.items()}
            cosine = min(sum(x * y for x, y in zip(a, b)) / math.hypot(*a) / math.hypot(*b) for a, b in zip(*vectors.values()))
            print(f"{length} words: gguf {rates['gguf']:.1f} texts/s, llama-server {rates['llama']:.1f}, ratio {rates['gguf'] / rates['llama']:.2f}, "
                  f"smallest cosine {cosine:.6f}", flush=True)
    finally:
        [process.kill() for process in processes]


if __name__ == "__main__":
    main()
