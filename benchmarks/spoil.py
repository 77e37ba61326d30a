"""Good files made worse: bytes, JSON values, headers of arrays and weights, whole folders (see malformed.py)."""

from __future__ import annotations

import contextlib
import json
import random
import struct
from pathlib import Path
from typing import Any

ODD = [None, True, -1, 0, 3, 0.5, 1e308, float("nan"), 10**30, "", "x", "\ud800", "../..", [], {}, [[[]]], {"a": {}}, ["x", 1]]
PIECES = [b"\xff\xfe", b"\x00", b"nan", b"1e999", b"-1", b"9" * 5000, b"[" * 100_000, b'{"a":' * 50_000, b'"', b"\t\t", b"\r",
          b"\\ud800", b"<![", b"<!--", b"&#x110000;", "\u2028".encode(), b"inf", b"\x1b[2J", b"PK\x03\x04", b"\x1f\x8b\x08\x00"]
SHAPES = [b"(1000000000000, 1000000)", b"(-1, 16)", b"()", b"(2,)", b"(True, 3)", b"('a',)", b"(0, 16)"]
TYPES = [b"<c8", b"|O ", b"<f8", b"<U9", b"<M8", b"<i2"]


def at_bytes(data: bytes, rng: random.Random) -> bytes:
    """Some bits flipped; cut, emptied, doubled, a part left out, zeroed, something odd put in; or other bytes."""
    a, b = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    flipped = bytearray(data)
    for _ in range(rng.randint(1, 20) if data else 0):
        flipped[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    odd = data[:a] + rng.choice(PIECES) + data[a:]
    return rng.choice([bytes(flipped), data[:a], b"", data[:b] + data[a:], data[:a] + data[b:],
                       data[:a] + bytes(b - a) + data[b:], odd, rng.randbytes(rng.randint(1, 200))])


def at_json(value: Any, rng: random.Random) -> Any:
    """The same with one place of another type, gone, or new."""
    node, path = value, []
    while isinstance(node, dict | list) and node and (not path or rng.random() < 0.7):
        key = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(min(len(node), 40))
        path.append((node, key))
        node = node[key]
    if not path:
        return rng.choice(ODD)
    holder, key = path[-1]
    if rng.random() < 0.2:
        del holder[key]
    elif isinstance(holder, dict) and rng.random() < 0.1:
        holder["unheard of"] = rng.choice(ODD)
    else:
        holder[key] = rng.choice(ODD)
    return value


def json_file(data: bytes, rng: random.Random) -> bytes:
    """JSON with another value somewhere."""
    return json.dumps(at_json(json.loads(data), rng)).encode()


def json_lines(data: bytes, rng: random.Random) -> bytes:
    """JSON lines, one of them with another value."""
    rows = data.decode().splitlines()
    row = rng.randrange(len(rows))
    rows[row] = json.dumps(at_json(json.loads(rows[row]), rng))
    return ("\n".join(rows) + "\n").encode()


def weights(data: bytes, rng: random.Random) -> bytes:
    """A safetensors file with another header: its tensors, what it says of itself, or its length."""
    (size,) = struct.unpack("<Q", data[:8])
    head = json.loads(data[8 : 8 + size])
    about = head.get("__metadata__", {}).get("about")
    if about and rng.random() < 0.6:
        head["__metadata__"]["about"] = json.dumps(at_json(json.loads(about), rng))
    else:
        head = at_json(head, rng)
    text = json.dumps(head).encode()
    return struct.pack("<Q", rng.choice([len(text)] * 6 + [2**63 - 1, len(data)])) + text + data[8 + size :]


def array(data: bytes, rng: random.Random) -> bytes:
    """A .npy file whose header gives another shape or another type."""
    head = data[10:128]
    if rng.random() < 0.7:
        head = head.replace(head[head.index(b"(") : head.index(b")") + 1], rng.choice(SHAPES), 1)
    else:
        head = head.replace(head[head.index(b"<") :][:3], rng.choice(TYPES), 1)
    head = head.rstrip()[:117].ljust(117) + b"\n"
    return data[:8] + struct.pack("<H", len(head)) + head + data[128:]


WAYS = {".json": json_file, ".ipynb": json_file, ".jsonl": json_lines, ".safetensors": weights, ".npy": array}


def spoil(path: Path, rng: random.Random) -> str:
    """One file made worse in place, in a way that suits its kind or by its bytes; returns how."""
    data, suited = path.read_bytes(), WAYS.get(path.suffix)
    if suited and rng.random() < 0.7:
        with contextlib.suppress(ValueError, IndexError, RecursionError, struct.error):  # spoiled before: by its bytes, then
            path.write_bytes(suited(data, rng))
            return "a value changed"
    path.write_bytes(at_bytes(data, rng))
    return "bytes changed"


def spoil_one(folder: Path, rng: random.Random) -> str:
    """One file of a folder made worse, gone, a folder, or swapped with another."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and "tensorboard" not in p.parts)  # nobody reads that back
    a, b, way = rng.choice(files), rng.choice(files), rng.random()
    name = a.relative_to(folder)
    if way < 0.1:
        a.unlink()
        return f"{name}: gone"
    if way < 0.2 and a != b:
        one, other = a.read_bytes(), b.read_bytes()
        a.write_bytes(other)
        b.write_bytes(one)
        return f"{name}: swapped with {b.relative_to(folder)}"
    if way < 0.25:
        a.unlink()
        a.mkdir()
        return f"{name}: a folder"
    return f"{name}: {spoil(a, rng)}"


def sealed(folder: Path) -> None:
    """All checksums of a model's folder made right again, as far as there is anything to write them into."""
    from two_towers.engine import _sha256

    with contextlib.suppress(ValueError, TypeError, KeyError, OSError, RecursionError, AttributeError):
        config = json.loads((folder / "config.json").read_bytes())
        config["files"] = {name: _sha256(folder / name) for name in config["files"]}
        (folder / "config.json").write_text(json.dumps(config))
        about = json.loads((folder / "index/about.json").read_bytes())
        about["model"] = config["files"]["model.safetensors"]
        about["files"] = {name: _sha256(folder / "index" / name) for name in about["files"]}
        (folder / "index/about.json").write_text(json.dumps(about))


def reseal(folder: Path, rng: random.Random) -> str:
    """A model's folder made worse, all its checksums right again: what somebody could hand on with intent."""
    how = spoil_one(folder, rng)
    sealed(folder)
    return f"{how}, checksums made to fit"
