#!/usr/bin/env python3
"""Tries the recipe of docs/scaling.md: three processes behind nginx, whose configuration is taken from that page.

python tests/judges/scaling.py --gguf target/release/gguf [--model FILE]

Needs nginx, and Python without packages. Conversations of several turns run at once, first through nginx with its hash, then with turns taken
(the line `hash` left out); then one process is killed in the middle. Prints how much of what earlier turns have read and answered was
cached, and what failed.
"""
import argparse
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time

CONVERSATIONS, TURNS = 24, 5


def ask(port, body, path="/v1/chat/completions"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    read = answer.read()
    connection.close()
    return answer.status, json.loads(read)


def wait(port):
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"nothing listens at {port}")


def converse(port, i, result, turned=None):
    messages = [{"role": "system", "content": "You tell stories."}, {"role": "user", "content": f"Tell me story number {i} of a dog and a ball, please."}]
    known = 0
    for turn in range(TURNS):
        try:
            status, answer = ask(port, {"model": "", "messages": messages, "max_tokens": 16, "temperature": 0})
        except (OSError, http.client.HTTPException, ValueError) as error:
            status, answer = 0, {"error": str(error)}
        if status != 200:
            result.append((i, turn, status, 0, 0))
            known = 0
            continue
        usage = answer["usage"]
        result.append((i, turn, status, known, usage["prompt_tokens_details"]["cached_tokens"]))
        known = usage["total_tokens"]
        messages += [answer["choices"][0]["message"], {"role": "user", "content": f"And then, after turn {turn}?"}]
        if turned:
            turned(turn)


def run(args, configuration, name, kill=False):
    ports = [9001, 9002, 9003]
    command = [args.gguf, "serve"] + ([args.model] if args.model else []) + ["--no-page", "--threads", "1"]
    servers = [subprocess.Popen(command + ["--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for port in ports]
    folder = tempfile.mkdtemp()
    path = os.path.join(folder, "nginx.conf")
    with open(path, "w") as file:
        file.write(f"daemon off; pid {folder}/pid; error_log {folder}/error.log;\n" + configuration.replace("http {", f"http {{ access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;", 1))
    [wait(port) for port in ports]
    nginx = subprocess.Popen(["nginx", "-c", path, "-p", folder], stderr=subprocess.PIPE)
    try:
        wait(8080)
        result, once = [], threading.Event()

        def turned(turn):
            if kill and turn == 2 and not once.is_set():
                once.set()
                servers[1].kill()
        threads = [threading.Thread(target=converse, args=(8080, i, result, turned)) for i in range(CONVERSATIONS)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        later = [r for r in result if r[1] > 0 and r[2] == 200]
        asked = [int(re.search(rb"\nllamacpp:n_decode_total (\d+)", metrics(port)).group(1)) for port, server in zip(ports, servers) if server.poll() is None]
        failed = [r[:3] for r in result if r[2] != 200]
        share = sum(r[4] for r in later) / max(1, sum(r[3] for r in later))
        print(f"{name}: {len(result)} requests, {len(failed)} failed {failed[:5] or ''}; of what earlier turns had read {100 * share:.1f} % was cached; steps of each process {asked}", flush=True)
        return share, failed
    finally:
        nginx.terminate()
        nginx.wait()
        [server.kill() for server in servers]
        [server.wait() for server in servers]


def metrics(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/metrics")
    return b"\n" + connection.getresponse().read()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--gguf", required=True)
    parser.add_argument("--model")
    args = parser.parse_args()
    page = open(os.path.join(os.path.dirname(__file__), "../../docs/scaling.md")).read()
    configuration = re.search(r"```nginx\n(.*?)```", page, re.S).group(1)
    hashed, failed = run(args, configuration, "by the beginning")
    turns, _ = run(args, configuration.replace("hash $beginning consistent;", ""), "in turns")
    killed, lost = run(args, configuration, "one process killed", kill=True)
    if failed or hashed < 0.9 or turns > hashed or len(lost) > CONVERSATIONS // 2:
        sys.exit("not as the page says")


if __name__ == "__main__":
    main()
