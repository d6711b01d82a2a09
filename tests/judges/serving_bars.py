#!/usr/bin/env python3
"""Measures what clients of a server wait for, beside llama-server: the figures of docs/performance.md, "Serving".

python tests/judges/serving_bars.py --gguf target/release/gguf --model 1b-Q4_K_M.gguf [--llama-server PATH] [--only one,many,...]

Needs no packages. Servers are started and stopped here, one at a time; the rounds of two programs take turns. Prompts are ids of
tokens, 300 to 1999, at random. Prints a line for each figure, the median of its rounds.
"""
import argparse
import http.client
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import threading
import time

IDS = range(300, 2000)


def tokens(count, seed):
    """A prompt of so many tokens, as their ids: the same for a seed."""
    numbers = random.Random(str(seed))
    return [numbers.choice(IDS) for _ in range(count)]


class Server:
    """A running server: `kind` is gguf or llama."""

    def __init__(self, kind, program, model, parallel=16, ctx=8192, extra=()):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.kind = kind
        if kind == "gguf":
            command = [program, "serve", model, "--port", str(self.port), "--parallel", str(parallel), "--ctx", str(ctx), "--no-page"]
        else:
            command = [program, "-m", model, "--port", str(self.port), "-np", str(parallel), "-c", str(ctx * parallel), "-t", "2", "--no-webui"]
        self.process = subprocess.Popen(command + list(extra), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(600):
            try:
                if self.get("/health")[0] == 200:
                    break
            except OSError:
                pass
            time.sleep(0.1)
        else:
            sys.exit(f"{kind}: did not start")
        self.stream(tokens(8, 0), 4)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()

    def stream(self, prompt, max_tokens, until=None, **fields):
        """A streamed completion: when its tokens came, in seconds from the start; its text; its usage."""
        body = {"prompt": prompt, "max_tokens": max_tokens, "temperature": 0, "ignore_eos": True, "stream": True,
                "stream_options": {"include_usage": True}, **fields}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1200)
        start = time.perf_counter()
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        if answer.status != 200:
            sys.exit(f"{self.kind}: {answer.status} {answer.read()[:300]}")
        times, text, usage = [], "", None
        for line in answer:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            usage = event.get("usage") or usage
            if event.get("choices"):
                piece = event["choices"][0].get("text", "")
                if piece or not event["choices"][0].get("finish_reason"):
                    times.append(time.perf_counter() - start)
                text += piece
            if until and until.is_set():
                break
        connection.close()
        return times, text, usage

    def memory(self):
        """MiB of the process that are not mapped files."""
        fields = dict(line.split(":", 1) for line in open(f"/proc/{self.process.pid}/status") if ":" in line)
        return (int(fields["RssAnon"].split()[0]) + int(fields["VmSwap"].split()[0])) / 1024


def at_once(jobs):
    results = [None] * len(jobs)

    def run(i):
        results[i] = jobs[i]()
    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(jobs))]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    return results


def rate(times):
    return (len(times) - 1) / (times[-1] - times[0])


def one_stream(server, round_):
    """Time to the first token of 512 new tokens; tokens a second after it."""
    times, _, usage = server.stream(tokens(512, f"one{round_}"), 64)
    return {"prompt tokens": usage["prompt_tokens"], "first token s": times[0], "tokens/s": (usage["completion_tokens"] - 1) / (times[-1] - times[0])}


def many_streams(server, round_):
    """Output tokens a second of 16 streams at once, prompts of 16 and of 128 tokens."""
    result = {}
    for length in (16, 128):
        start = time.perf_counter()
        answers = at_once([lambda i=i: server.stream(tokens(length, f"many{round_}{length}{i}"), 64) for i in range(16)])
        took = time.perf_counter() - start
        result[f"16 streams, prompts of {length}: tokens/s"] = sum(usage["completion_tokens"] for _, _, usage in answers) / took
    return result


def neighbour(server, round_):
    """The largest gap of a stream while a prompt of 4,096 tokens arrives, and that prompt's first token."""
    done = threading.Event()
    long = {}

    def prompt():
        time.sleep(2)
        times, _, usage = server.stream(tokens(4096, f"long{round_}"), 2)
        long.update(time=times[0], tokens=usage["prompt_tokens"])
        time.sleep(0.5)
        done.set()
    thread = threading.Thread(target=prompt)
    thread.start()
    times, _, _ = server.stream(tokens(16, f"short{round_}"), 4000, until=done)
    thread.join()
    gaps = [after - before for before, after in zip(times, times[1:])]
    return {"largest gap s": max(gaps), "long prompt's tokens": long["tokens"], "its first token s": long["time"]}


def warm_prefix(server, round_):
    """The first token of 32 new tokens after 2,048 that are known, beside that of 32 alone."""
    prefix = tokens(2048, f"prefix{round_}")
    server.stream(prefix, 1)
    warm = [server.stream(prefix + tokens(32, f"new{round_}{i}"), 1) for i in range(5)]
    alone = [server.stream(tokens(32, f"alone{round_}{i}"), 1) for i in range(5)]
    first = lambda answers: statistics.median(times[0] for times, _, _ in answers)
    cached = warm[-1][2].get("prompt_tokens_details", {}).get("cached_tokens")
    return {"warm s": first(warm), "alone s": first(alone), "ratio": first(warm) / first(alone), "cached": cached}


def same_bits(server, model, args):
    """100 prompts x {alone, 16 at once, warm, after eviction, n = 4}, greedy and by a seed: equal texts."""
    prompts = [tokens(5 + i % 60, f"same{i}") for i in range(100)]
    wrong = 0
    for fields in ({"temperature": 0}, {"temperature": 1, "seed": 1}):
        ask = lambda prompt: server.stream(prompt, 24, **fields)[1]
        alone = [ask(prompt) for prompt in prompts]
        once = []
        for i in range(0, 100, 16):
            once += at_once([lambda p=p: ask(p) for p in prompts[i:i + 16]])
        warm = [ask(prompt) for prompt in prompts]
        for i in range(args.evict):
            server.stream(tokens(2000, f"evict{fields}{i}"), 1)
        evicted = [ask(prompt) for prompt in prompts]
        four = []
        for prompt in prompts:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=600)
            connection.request("POST", "/v1/completions", json.dumps({"prompt": prompt, "max_tokens": 24, "ignore_eos": True, "n": 4, **fields}),
                               {"Content-Type": "application/json"})
            choices = json.loads(connection.getresponse().read())["choices"]
            four.append(choices[0]["text"] if choices[0]["index"] == 0 else None)
        for name, texts in (("16 at once", once), ("warm", warm), ("after eviction", evicted), ("n = 4", four)):
            differ = sum(a != b for a, b in zip(alone, texts))
            wrong += differ
            print(f"same bits, {fields}: {name}: {100 - differ} of 100 equal", flush=True)
    return wrong


def soak(server, args):
    """Memory after 1,000 and after 10,000 mixed requests, MiB."""
    numbers = random.Random(7)
    counts = [1000, args.soak]
    done, figures = 0, []
    for count in counts:
        while done < count:
            jobs = []
            for _ in range(min(16, count - done)):
                kind = numbers.random()
                prompt = tokens(numbers.randrange(1, 300), numbers.randrange(400))
                if kind < 0.8:
                    jobs.append(lambda p=prompt, n=numbers.randrange(1, 24): server.stream(p, n))
                elif kind < 0.9:
                    jobs.append(lambda p=prompt: server.stream(p, 8, temperature=1, seed=3))
                else:
                    jobs.append(lambda p=prompt: hang_up(server, p))
                done += 1
            at_once(jobs)
        figures.append(server.memory())
    return {f"MiB after {count}": figure for count, figure in zip(counts, figures)}


def hang_up(server, prompt):
    gone = threading.Event()
    gone.set()
    server.stream(prompt, 500, until=gone)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--gguf", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--llama-server")
    parser.add_argument("--load", default="mmap", help="of gguf: load copies the weights, as llama-server repacks them")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="one,many,neighbour,warm")
    parser.add_argument("--soak", type=int, default=10000)
    parser.add_argument("--evict", type=int, default=40)
    args = parser.parse_args()
    programs = [("gguf", args.gguf)] + ([("llama", args.llama_server)] if args.llama_server else [])
    figures = {"one": one_stream, "many": many_streams, "neighbour": neighbour, "warm": warm_prefix}
    for name in args.only.split(","):
        if name in figures:
            results = {kind: [] for kind, _ in programs}
            for round_ in range(args.rounds):
                for kind, program in programs:
                    with Server(kind, program, args.model, extra=["--load", args.load] if kind == "gguf" else ()) as server:
                        results[kind].append(figures[name](server, round_))
            for kind, rounds in results.items():
                print(f"{name}: {kind}:", ", ".join(f"{k} {statistics.median(r[k] or 0 for r in rounds):.3f}" for k in rounds[0]), flush=True)
        elif name == "bits":
            with Server("gguf", args.gguf, args.model, extra=["--cache-memory", "256"]) as server:
                if same_bits(server, args.model, args):
                    sys.exit("texts differ")
        elif name == "soak":
            with Server("gguf", args.gguf, args.model) as server:
                print("soak:", soak(server, args), flush=True)
        else:
            sys.exit(f"unknown figure {name}")


if __name__ == "__main__":
    main()
