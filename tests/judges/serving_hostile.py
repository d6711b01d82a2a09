#!/usr/bin/env python3
"""What a server bears: idle and slow clients, foreign origins, fuzzed bodies, full disks, SIGKILL, hang-ups; and what it costs beside the model.

python tests/judges/serving_hostile.py --gguf target/release/gguf [--model FILE] [--only idle,slow,...] [--schemathesis PATH]

Needs no packages (schemathesis where that is asked for; `full` needs to mount a tmpfs). Prints a line for each figure and ends with 1 where a
bar is not held. The figures are those of docs/performance.md, "Serving".
"""
import argparse
import http.client
import json
import os
import random
import resource
import shutil
import signal
import socket
import statistics
import string
import subprocess
import sys
import tempfile
import threading
import time

FAILED = []


def bar(name, holds, figure):
    print(f"{name}: {figure}{'' if holds else '  <- NOT HELD'}", flush=True)
    if not holds:
        FAILED.append(name)


class Server:
    def __init__(self, args, *extra, port=0):
        self.errors = tempfile.TemporaryFile()
        command = [args.gguf, "serve"] + ([args.model] if args.model else []) + ["--port", str(port), "--no-page", *extra]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.errors, text=True)
        line = self.process.stdout.readline()
        self.port = int(line.rsplit(":", 1)[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def said(self):
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace")

    def ask(self, method, path, body=None, headers=None, timeout=120):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        data = body if isinstance(body, (bytes, str)) or body is None else json.dumps(body)
        connection.request(method, path, data, headers or {})
        answer = connection.getresponse()
        read = answer.read()
        connection.close()
        return answer.status, read

    def complete(self, n=8, prompt="Once upon a time", **fields):
        body = {"prompt": prompt, "n_predict": n, "temperature": 0, "ignore_eos": True, **fields}
        status, read = self.ask("POST", "/completion", body)
        return status, json.loads(read)

    def connect(self):
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        return connection

    def metric(self, name):
        for line in self.ask("GET", "/metrics")[1].decode().splitlines():
            if line.startswith(name + " "):
                return float(line.split()[1])
        raise KeyError(name)


def worst(server, count, ask):
    """The longest and the median time of so many requests, one after the other."""
    times = []
    for _ in range(count):
        start = time.perf_counter()
        ask()
        times.append(time.perf_counter() - start)
    return max(times), statistics.median(times)


def served_on(name, server, usual):
    """Others are served while what is hostile goes on."""
    slowest, median = worst(server, 20, lambda: server.complete())
    bar(f"{name}: others, median (slowest) of 20", slowest < max(1.0, 10 * usual), f"{median * 1000:.0f} ms ({slowest * 1000:.0f} ms), alone {usual * 1000:.0f} ms")


def idle(args):
    """2,000 connections that say nothing."""
    with Server(args) as server:
        usual = worst(server, 20, lambda: server.complete())[1]
        held = []
        start = time.perf_counter()
        for _ in range(2000):
            held.append(server.connect())
        took = time.perf_counter() - start
        served_on("2,000 idle connections", server, usual)
        bar("2,000 idle connections: accepted in", took < 10, f"{took:.1f} s")
        [one.close() for one in held]


def slow(args):
    """Clients that send a byte of their head, or of their body, now and then."""
    with Server(args) as server:
        usual = worst(server, 20, lambda: server.complete())[1]
        stopped = threading.Event()
        heads, bodies = [server.connect() for _ in range(1500)], [server.connect() for _ in range(500)]
        [one.sendall(b"POST /completion HTTP/1.1\r\nHost: localhost\r\nX-") for one in heads]
        [one.sendall(b"POST /completion HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n{") for one in bodies]

        def drip():
            while not stopped.wait(1):
                for one in heads + bodies:
                    try:
                        one.sendall(b"a")
                    except OSError:
                        pass
        thread = threading.Thread(target=drip)
        thread.start()
        served_on("2,000 slow clients", server, usual)
        time.sleep(5)
        served_on("2,000 slow clients, 5 s later", server, usual)
        stopped.set()
        thread.join()
        [one.close() for one in heads + bodies]


def readers(args):
    """Clients that ask for long streams and never read them."""
    with Server(args, "--parallel", "16") as server:
        usual = worst(server, 20, lambda: server.complete())[1]
        body = json.dumps({"prompt": "Once", "n_predict": 900, "ignore_eos": True, "stream": True, "n_probs": 20}).encode()
        head = f"POST /completion HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        held = []
        for _ in range(8):
            one = socket.socket()
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.connect(("127.0.0.1", server.port))
            one.sendall(head + body)
            held.append(one)
        time.sleep(2)
        served_on("8 clients that read nothing", server, usual)


def origins(args):
    """Foreign hosts and origins on every route."""
    with Server(args) as server:
        document = json.loads(server.ask("GET", "/openapi.json")[1])
        wrong = []
        count = 0
        foreign = [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Host": "evil.example"}, {"Host": "127.0.0.1.evil.example"},
                   {"Origin": "http://localhost.evil.example"}, {"Host": "localhost@evil.example"}, {"Host": ""}]
        for path, operations in document["paths"].items():
            for method in operations:
                for headers in foreign[:6]:
                    count += 1
                    status, _ = server.ask(method.upper(), path.replace("{name}", "x"), "{}", headers)
                    # HTTP itself refuses a Host that is none.
                    if status not in (403, 400) or status == 400 and "@" not in headers.get("Host", ""):
                        wrong.append((method, path, headers, status))
        bar("foreign Host or Origin: refused", not wrong, f"{count - len(wrong)} of {count} {wrong[:3] or ''}")


def any_json(numbers, depth=0):
    kind = numbers.randrange(9 if depth < 4 else 6)
    if kind == 0:
        return None
    if kind == 1:
        return numbers.choice([True, False])
    if kind == 2:
        return numbers.choice([0, 1, -1, 2, 1 << 31, 1 << 63, -(1 << 63), 10 ** 30, 4294967296])
    if kind == 3:
        return numbers.choice([0.5, -0.0, 1e308, -1e-300, 1e20])
    if kind < 6:
        return numbers.choice(["", "a", "user", "text", "\u0000", "\ud83d\ude00", "a" * 3000, "/etc/passwd", "..", "0", "-1", "%", "json_schema", "none"])
    if kind == 6:
        return [any_json(numbers, depth + 1) for _ in range(numbers.randrange(4))]
    return {numbers.choice(["type", "role", "content", "a", "function", "name", "text", "schema", "id"]): any_json(numbers, depth + 1) for _ in range(numbers.randrange(4))}


NAMES = """model messages prompt input max_tokens n temperature top_p top_k seed stop logit_bias stream stream_options response_format tools
tool_choice parallel_tool_calls logprobs top_logprobs grammar json_schema n_probs samplers cache_prompt id_slot options format think keep_alive
raw context system template suffix query documents questions instructions text reasoning previous_response_id content tokens filename
input_prefix input_suffix input_extra stop_sequences thinking metadata store chat_template_kwargs reasoning_effort name source destination from
files dimensions encoding_format truncate lora speculative.n_max dry_sequence_breakers return_progress response_fields verbose""".split()

MODEL = {
    "messages": [{"role": "user", "content": "Hi"}], "prompt": "Once", "input": "Hi", "max_tokens": 2, "n_predict": 2, "max_output_tokens": 2,
    "query": "a", "documents": ["b"], "content": "a", "tokens": [5], "questions": [{"type": "predicate", "name": "a", "instructions": "b"}],
    "options": {"num_predict": 2}, "stream": False,
}


def fuzz(args):
    """Bodies with one to three fields that are anything, and bodies that are no JSON, on every route that takes one."""
    numbers = random.Random(args.seed)
    with Server(args, "--slot-save-path", tempfile.gettempdir()) as server:
        document = json.loads(server.ask("GET", "/openapi.json")[1])
        routes = [(method, path.replace("{name}", "0")) for path, operations in document["paths"].items() for method in operations if method != "get" and method != "head"]
        statuses, wrong = {}, []
        for i in range(args.requests):
            method, path = routes[i % len(routes)]
            body = {**MODEL, **{numbers.choice(NAMES): any_json(numbers) for _ in range(numbers.randrange(1, 4))}}
            data = json.dumps(body)
            if numbers.random() < 0.1:
                data = data[: numbers.randrange(len(data))]
            elif numbers.random() < 0.05:
                data = bytes(numbers.randrange(256) for _ in range(numbers.randrange(200)))
            elif numbers.random() < 0.02:
                data = "[" * numbers.choice([100, 127, 128, 10000, 200000])
            if path.startswith("/slots"):
                path += "?action=" + numbers.choice(["save", "restore", "erase", "x"])
            status, read = server.ask(method.upper(), path, data)
            statuses[status] = statuses.get(status, 0) + 1
            if status >= 500 and status not in (501, 503):
                wrong.append((path, str(data)[:300], status, read[:200]))
        alive = server.ask("GET", "/health")[0] == 200
        said = server.said()
        for one in wrong[:10]:
            print("  ", one)
        bar(f"{args.requests} fuzzed bodies: no 500, no panic", not wrong and alive and "panicked" not in said, dict(sorted(statuses.items())))
        if "panicked" in said:
            print(said[:1000])


def schemathesis(args):
    """schemathesis over the served document: no 500, no panic."""
    with Server(args, "--ctx", "1024") as server:
        command = [args.schemathesis, "run", f"http://127.0.0.1:{server.port}/openapi.json", "--phases", "coverage,fuzzing", "--max-time", str(args.time),
                   "-c", "not_a_server_error,unsupported_method,allow_header_conformance,content_type_conformance", "--continue-on-failure", "--no-color"]
        output = subprocess.run(command, capture_output=True, text=True).stdout
        found = [line.strip() for line in output.splitlines() if line.startswith("[5")]
        real = [line for line in found if not line.startswith(("[501", "[503"))]
        counts = [line.strip() for line in output.splitlines() if "generated" in line or line.strip().startswith("❌ ST")]
        bar("schemathesis: no 500, no panic", not real and "panicked" not in server.said() and counts, "; ".join(counts) or output[-300:])


def kill(args):
    """SIGKILL in the middle of load, and a start anew: what was saved is there."""
    folder = tempfile.mkdtemp()
    try:
        lost, rounds, saved = 0, 5, 0
        for round_ in range(rounds):
            server = Server(args, "--slot-save-path", folder)
            stopped, promised = threading.Event(), []

            def load(i):
                while not stopped.is_set():
                    try:
                        server.complete(16, f"Once there was a {i}", id_slot=i)
                        answer = server.ask("POST", f"/slots/{i}?action=save", {"filename": f"{round_}-{i}.bin"})
                        if answer[0] == 200:
                            promised.append((i, json.loads(answer[1])))
                    except (OSError, http.client.HTTPException):
                        return
            threads = [threading.Thread(target=load, args=(i,)) for i in range(8)]
            [thread.start() for thread in threads]
            time.sleep(1.5)
            server.process.send_signal(signal.SIGKILL)
            server.process.wait()
            stopped.set()
            [thread.join() for thread in threads]
            start = time.perf_counter()
            with Server(args, "--slot-save-path", folder, port=server.port) as again:
                up = time.perf_counter() - start
                for i, said in promised:
                    saved += 1
                    status, read = again.ask("POST", f"/slots/{i}?action=restore", {"filename": said["filename"]})
                    restored = json.loads(read)
                    if status != 200 or restored["n_restored"] != said["n_saved"]:
                        lost += 1
                        print("  ", status, read[:200])
                if again.complete()[0] != 200:
                    lost += 1
        bar("SIGKILL under load: states that were promised and are lost", lost == 0 and saved > 0, f"{lost} of {saved} in {rounds} rounds, serves again after {up * 1000:.0f} ms")
    finally:
        shutil.rmtree(folder)


def full(args):
    """A full disk for states of slots."""
    folder = tempfile.mkdtemp()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], check=True)
    try:
        with Server(args, "--slot-save-path", folder) as server:
            server.complete(4, id_slot=0)
            first = server.ask("POST", "/slots/0?action=save", {"filename": "a.bin"})[0]
            server.complete(600, id_slot=1)
            statuses = [server.ask("POST", "/slots/1?action=save", {"filename": name})[0] for name in ("a.bin", "b.bin")]
            restored = server.ask("POST", "/slots/2?action=restore", {"filename": "a.bin"})[0]
            others = server.complete()[0]
            bar("full disk: status; files left; the old one restored; others", first == 200 and statuses == [507, 507] and os.listdir(folder) == ["a.bin"] and (restored, others) == (200, 200),
                f"{statuses}; {os.listdir(folder)}; {restored}; {others}")
    finally:
        subprocess.run(["umount", folder], check=True)
        os.rmdir(folder)


def hang_up(args):
    """How long it computes on for a client that has gone, while its answer is made and while its prompt is read."""
    with Server(args, "--parallel", "1", *(["--ctx", "8192"] if args.model else [])) as server:
        numbers = random.Random(1)
        prompts = {"answer": "Once", "prompt": [numbers.randrange(300, 1900) for _ in range(900 if not args.model else 6000)]}
        for name, prompt in prompts.items():
            worst_ = 0
            for _ in range(3):
                one = server.connect()
                body = json.dumps({"prompt": prompt, "n_predict": 900, "ignore_eos": True, "stream": True, "cache_prompt": False}).encode()
                one.sendall(f"POST /completion HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
                deadline = time.time() + 20
                while server.metric("llamacpp:requests_processing") != 1 and time.time() < deadline:
                    pass
                one.close()
                start = time.perf_counter()
                ticks = os.sysconf("SC_CLK_TCK")
                used = lambda: sum(map(int, open(f"/proc/{server.process.pid}/stat").read().rsplit(")", 1)[1].split()[11:13])) / ticks
                while server.metric("llamacpp:requests_processing") != 0:
                    time.sleep(0.005)
                ended = time.perf_counter() - start
                worst_ = max(worst_, ended)
                before = used()
                time.sleep(0.3)
                bar(f"hang-up in the {name}: computes no more", used() - before < 0.1, f"{(used() - before) * 1000:.0f} ms of CPU in the 300 ms after")
            bar(f"hang-up in the {name}: ends after, at most", worst_ < 0.3, f"{worst_ * 1000:.0f} ms")


def overhead(args):
    """CPU time of HTTP, JSON and sampling beside that of the model, 16 streams at once."""
    with Server(args, "--parallel", "16", *(["--ctx", "2048"] if args.model else [])) as server:
        def threads():
            found = {}
            ticks = os.sysconf("SC_CLK_TCK")
            for task in os.listdir(f"/proc/{server.process.pid}/task"):
                fields = open(f"/proc/{server.process.pid}/task/{task}/stat").read()
                name = fields[fields.index("(") + 1:fields.rindex(")")]
                used = sum(map(int, fields.rsplit(")", 1)[1].split()[11:13])) / ticks
                found[name] = found.get(name, 0) + used
            return found
        steps = lambda: server.metric("llamacpp:n_decode_total")

        def stream(i):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=600)
            body = {"messages": [{"role": "user", "content": f"Story number {i}"}], "max_tokens": args.tokens, "stream": True, "temperature": 0.8, "ignore_eos": True}
            connection.request("POST", "/v1/chat/completions", json.dumps(body))
            connection.getresponse().read()
        before, first, start = threads(), steps(), time.perf_counter()
        all_ = [threading.Thread(target=stream, args=(i,)) for i in range(16)]
        [one.start() for one in all_]
        [one.join() for one in all_]
        took, after, last = time.perf_counter() - start, threads(), steps()
        spent = {name: round(after[name] - before.get(name, 0), 2) for name in after}
        web = sum(used for name, used in spent.items() if name.startswith(("http", "tokio")))
        print(f"   {took:.1f} s, {last - first:.0f} steps, CPU by threads: {spent}")
        print(f"HTTP and JSON, 16 streams: {web / (last - first) * 1000:.2f} ms of CPU a step of {took / (last - first) * 1000:.1f} ms: {100 * web / took:.1f} % of one core, {100 * web / took / os.cpu_count():.1f} % of the machine")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--gguf", required=True)
    parser.add_argument("--model")
    parser.add_argument("--only", default="idle,slow,readers,origins,fuzz,kill,full,hang_up,overhead")
    parser.add_argument("--schemathesis", help="the program, for --only schemathesis")
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--time", type=int, default=60)
    parser.add_argument("--tokens", type=int, default=64)
    args = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(10000, hard), hard))
    for name in args.only.split(","):
        globals()[name](args)
    if FAILED:
        sys.exit("not held: " + "; ".join(FAILED))


if __name__ == "__main__":
    main()
