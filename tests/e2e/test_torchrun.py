"""Two processes of torchrun train as one process with the doubled batch does; killed, they go on to the same weights."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
ENV = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
SCRIPT = """
import sys, json, torch, numpy as np
import torch.distributed as dist
from two_towers.data import load
from two_towers.parallel import Gathered, Share, processes
from two_towers.towers import DualEncoder
from two_towers.train import fit
from safetensors.torch import save_file

out, plain = sys.argv[1], len(sys.argv) > 2
torch.set_num_threads(1)
with processes() as (rank, world):
    data = load("sample")
    model = DualEncoder.for_corpus(data, dim=16, hidden=(16,), lexical=32, word_dropout=0.0, shared=False, progress=False)
    pairs = data.train.pairs(model.tokens, negatives="random")
    if plain and rank == 1:  # another model than the other process's
        try:
            Gathered(DualEncoder.for_corpus(data, dim=16, hidden=(16,), lexical=32, shared=False, seed=1, progress=False))
        except ValueError as e:
            print("refused:", e)
    elif plain:
        try:
            Gathered(model)
        except ValueError:
            pass
    loss = "inbatch" if plain else Gathered(model)
    history = fit(model, Share(pairs, rank, world), loss=loss, epochs=3, batch_size=16 // world, progress=False)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, f"{out}.{rank}.safetensors",
              {"loss": json.dumps([r["loss"] for r in history.rows])})
"""


KILLED = """
import os, signal, sys
from two_towers import parallel

who, at, plain, steps = sys.argv[1], int(sys.argv[2]), parallel.Gathered.__call__, iter(range(10**6))

def deadly(self, model, batch):
    now = next(steps) == at
    if now and who == os.environ["RANK"]:
        os.kill(os.getpid(), signal.SIGKILL)
    if now and who == "all":
        print("here stands", os.getpid(), flush=True)
        signal.pause()
    return plain(self, model, batch)

parallel.Gathered.__call__ = deadly
sys.exit(parallel.main(sys.argv[3:]))
"""


def losses(path: Path) -> list[float]:
    from safetensors import safe_open

    with safe_open(path, "pt") as f:
        return json.loads(f.metadata()["loss"])


def test_two_processes_are_one_with_the_doubled_batch(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    for n, name, more in ((1, "one", []), (2, "two", []), (2, "apart", ["plain"])):
        done = subprocess.run([*TORCHRUN, f"--nproc-per-node={n}", str(script), str(tmp_path / name), *more], env=ENV, text=True,
                              capture_output=True, timeout=200)
        assert done.returncode == 0, done.stderr[-3000:]
    assert "refused: the processes hold different models" in done.stdout
    one, two, other = (load_file(tmp_path / f"{n}.safetensors") for n in ("one.0", "two.0", "two.1"))
    assert one.keys() == two.keys() and len(one) > 6
    for name, weight in one.items():
        assert torch.allclose(weight, two[name], atol=1e-5), name
        assert torch.equal(two[name], other[name]), name
    a, b, c = (losses(tmp_path / f"{n}.0.safetensors") for n in ("one", "two", "apart"))
    assert all(abs(x - y) < 1e-5 for x, y in zip(a, b, strict=True)) and a[0] > a[-1]
    assert abs(a[0] - c[0]) > 0.1  # without gathering: half of the negatives, another loss


def test_the_command_makes_a_folder_and_says_no(tmp_path: Path) -> None:
    def run(n: int, *more: str) -> subprocess.CompletedProcess:
        small = ["--data", "sample", "--dim", "8", "--epochs", "1", "--pretrain-epochs", "1"]
        return subprocess.run([*TORCHRUN, f"--nproc-per-node={n}", "-m", "two_towers.parallel", *small, *more], env=ENV, text=True,
                              capture_output=True, timeout=200)

    done = run(2, "--out", str(tmp_path / "model"), "--batch", "8")
    assert done.returncode == 0 and done.stdout.startswith("2 processes: pretrain 1: loss "), done.stderr[-3000:]
    from two_towers.engine import SearchEngine

    assert SearchEngine.open(tmp_path / "model").search("tea", 3)
    again = run(2, "--out", str(tmp_path / "model"))
    assert again.returncode and "exitcode  : 2 " in again.stderr, again.stderr[-3000:]
    assert [line for line in again.stderr.splitlines() if line.startswith("two_towers.parallel: ")] == [
        f"two_towers.parallel: {tmp_path}/model: holds a finished model: name another folder, or remove this one"]
    odd = run(2, "--out", str(tmp_path / "other"), "--batch", "7")
    assert odd.returncode and "batch 7 for 2 processes" in odd.stderr and not (tmp_path / "other").exists()


def test_killed_in_the_middle_of_an_epoch_and_resumed_to_the_same_weights(tmp_path: Path) -> None:
    from two_towers.recipe import check_folder, locked

    # Three processes and a GRU: only sums of three or more depend on their order, and only many dense weights on how they are packed.
    small = ["--data", "sample", "--tower", "gru", "--dim", "32", "--batch", "6", "--pretrain-epochs", "2", "--epochs", "2"]
    script, whole, cut = tmp_path / "script.py", tmp_path / "whole", tmp_path / "cut"
    script.write_text(KILLED)

    def begin(out: Path, who: str, at: int, *more: str) -> subprocess.Popen:
        command = [*TORCHRUN, "--nproc-per-node=3", str(script), who, str(at), *small, "--out", str(out), *more]
        return subprocess.Popen(command, env=ENV, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def end(process: subprocess.Popen) -> tuple[int, str, str]:
        out, err = process.communicate(timeout=600)
        return process.returncode, out, err

    def rows(folder: Path) -> list[tuple[str, int, float]]:
        found = map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf8").splitlines())
        return [(row["phase"], row["steps"], row["loss"]) for row in found]

    code, told, err = end(begin(whole, "nobody", 0))
    assert code == 0, err[-3000:]
    (_, first, _), (_, second, _), (_, third, _), _ = undisturbed = rows(whole)
    assert second > first > 2 and third > 2

    code, _, err = end(begin(cut, "1", first + 1))  # one of them dies in the second epoch: torchrun ends the others
    assert code and "exitcode  : -9 " in err, err[-3000:]
    with locked(cut):
        assert check_folder(cut, resume=True) == "unfinished" and rows(cut) == undisturbed[:1]

    process = begin(cut, "all", second - first + third + 1, "--resume")  # all of them die, two epochs further on
    standing = [int(process.stdout.readline().rpartition(" ")[2]) for _ in range(3)]
    for one in (process.pid, *standing):
        os.kill(one, signal.SIGKILL)
    code, _, err = end(process)
    assert code == -signal.SIGKILL and rows(cut) == undisturbed[:3], err[-3000:]

    code, again, err = end(begin(cut, "nobody", 0, "--resume"))
    assert code == 0 and rows(cut) == undisturbed, err[-3000:]
    assert again.splitlines()[:-1] == told.splitlines()[:-1]  # losses and figures; the last line names the folder
    assert (cut / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert sorted(p.name for p in cut.iterdir()) == sorted(p.name for p in whole.iterdir())
