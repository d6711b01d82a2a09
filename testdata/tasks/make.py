"""Makes the task files of this folder from the storyteller's held-out text: python testdata/tasks/make.py

The text is that of `storyteller/heldout.txt` (public domain); choices that are wrong are parts of other sentences, or other names.
"""

import random
import re
import struct
from pathlib import Path

HERE = Path(__file__).parent
TEXT = (HERE.parent / "storyteller/heldout.txt").read_text(encoding="utf-8")
NAMES = ["Pierre", "Natasha", "Nicholas", "Mary", "Denisov", "Belova"]
random.seed(7)


def sentences():
    found = []
    for line in TEXT.splitlines():
        found += [s.strip() for s in re.split(r"(?<=[.!?])\s+", line) if s.count('"') % 2 == 0]
    return [s for s in found if 8 <= len(s.split()) <= 26 and s[0].isupper()]


def halves(sentence):
    words = sentence.split()
    at = len(words) * 3 // 5
    return " ".join(words[:at]), " ".join(words[at:])


def hellaswag(pool, count):
    lines = []
    for sentence in pool[:count]:
        context, right = halves(sentence)
        endings = [halves(other)[1] for other in random.sample(pool, 3)]
        gold = random.randrange(4)
        endings.insert(gold, right)
        lines += ["Of War and Peace: " + context, str(gold), *endings]
    (HERE / "hellaswag.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def winogrande(pool, count):
    named = [s for s in pool if sum(len(re.findall(rf"\b{n}\b", s)) for n in NAMES) == 1 and "_" not in s and '"' not in s]
    # Some where next to nothing follows the name: other tokens are scored then.
    ends = [s for s in named if re.search(rf"\b({'|'.join(NAMES)})\W*$", s)][:6]
    picked = ends + [s for s in named if s not in ends][: count - len(ends)]
    random.shuffle(picked)
    rows = []
    for i, sentence in enumerate(picked):
        name = next(n for n in NAMES if re.search(rf"\b{n}\b", sentence))
        blank = re.sub(rf"\b{name}\b", "_", sentence)
        other = random.choice([n for n in NAMES if n != name])
        answer = random.randrange(1, 3)
        choices = [name, other] if answer == 1 else [other, name]
        field = f'"{blank}"' if "," in blank or i % 5 == 0 else blank
        rows.append(f"{i},{field},{choices[0]},{choices[1]},{answer}")
    # llama-perplexity leaves out a row that is not followed by a line.
    (HERE / "winogrande.csv").write_text("\n".join(rows) + "\n\n", encoding="utf-8")


def multiple_choice(pool, count):
    def text(value):
        value = value.encode()
        return struct.pack("<I", len(value)) + value

    def answers(values, labels):
        return struct.pack("<I", len(values)) + b"".join(map(text, values)) + struct.pack(f"<{len(labels)}i", *labels)

    tasks = []
    for i, sentence in enumerate(pool[:count]):
        context, right = halves(sentence)
        wrong = [halves(other)[1] for other in random.sample(pool, 1 + i % 5)]
        one = wrong[:]
        gold = random.randrange(len(wrong) + 1)
        one.insert(gold, right)
        two = one + ["Nobody knows."]
        tasks.append(
            text("Question: How does it go on? " + context)
            + answers(one, [int(j == gold) for j in range(len(one))])
            + answers(two, [int(j in (gold, len(one))) for j in range(len(two))])
        )
    at = 4 + 4 * len(tasks)
    places = []
    for task in tasks:
        places.append(at)
        at += len(task)
    head = struct.pack("<I", len(tasks)) + struct.pack(f"<{len(tasks)}I", *places)
    (HERE / "multiple-choice.bin").write_bytes(head + b"".join(tasks))


ALL = sentences()
random.shuffle(ALL)
hellaswag(ALL[:200], 20)
winogrande(ALL, 24)
multiple_choice(ALL[200:400], 20)
