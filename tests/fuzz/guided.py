"""Coverage guided fuzzing of the codec, a process of its own: ``python guided.py <corpus> -runs=1000 -seed=1 ...``, libFuzzer's options.

Where atheris cannot be imported it ends with the exit code :data:`~guided_exit.ABSENT`. Half of the changes are libFuzzer's, and half those of :mod:`mutators`.
"""

from __future__ import annotations

import random
import sys

from guided_exit import ABSENT

try:
    import atheris
except ImportError:
    sys.exit(ABSENT)

with atheris.instrument_imports(include=["rpcretry.codec", "rpcretry._json", "rpcretry._encoding", "rpcretry._unreadable", "rpcretry.messages"]):
    import rpcretry.codec  # noqa: F401

from codec_oracle import SEEDS, case_of, check, targets
from mutators import mutated

# Always the same: libFuzzer wants the same branches of the same body.
TARGETS = targets()[:2]
turn = 0


def one_input(data: bytes) -> None:
    """libFuzzer's target."""
    global turn
    turn += 1
    check(case_of(data), TARGETS, deep=turn % 256 == 0)


def mutate(data: bytes, most: int, seed: int) -> bytes:
    """libFuzzer's mutator: ours for half of them."""
    draw = random.Random(seed)
    if draw.random() < 0.5:
        return bytes(atheris.Mutate(data, most))
    return (data[:2].ljust(2, b"\0") + mutated(data[2:], SEEDS, draw))[:most]


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input, custom_mutator=mutate)
    atheris.Fuzz()
