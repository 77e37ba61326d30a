"""How long a fresh process takes to import two_towers, and to print the command line's help.

    python benchmarks/import_time.py [--rounds 5]

The peer is a process that imports torch alone.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from typing import Any

from timing import medians, number, row

TORCH = "import torch"
OURS = {
    "import two_towers": "import two_towers",
    "two-towers --help": "import sys; from two_towers.cli import main; sys.exit(main(['--help']))",
}


def fresh(code: str) -> None:
    """Run `code` in a new interpreter; what it prints goes nowhere."""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def run(rounds: int = 5, threads: int | None = None) -> list[dict[str, Any]]:
    """One row for each start. Seconds of the wall's clock, the interpreter's own start included: what one waits for."""
    rows = []
    for name, code in OURS.items():
        ours, peer = medians(rounds, time.perf_counter, lambda code=code: fresh(code), lambda: fresh(TORCH))
        rows.append(row(f"{name} (peer: {TORCH})", ours, peer, "s"))
    return rows


def main() -> None:
    """Reads the options and prints the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    for r in run(parser.parse_args().rounds):
        print(f"{r['name']:44}{number(r['ours']):>8} s {number(r['peer']):>8} s  ratio {r['ratio']:.2f}")


if __name__ == "__main__":
    main()
