"""All targets under a fuzzer that coverage guides, in one process, as work.py starts it.

Atheris instruments our packages' code as it is imported. The first two bytes of an input choose
the target; what libFuzzer would do to the others it leaves to hostile.py half of the time, so
that it gets past the first check of a format.
"""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random

import atheris


def main(only: str, folder: str, runs: int, seed: int) -> None:
    with atheris.instrument_imports(include=["models", "producers", "streams"]):
        from tests.fuzz import targets
        from tests.fuzz.hostile import MOST_BYTES, hostile
        from tests.fuzz.work import fed, quieted

    quieted()
    chosen = [one for one in targets.TARGETS if one.name.startswith(only)]
    known = [list(target.seeds()) for target in chosen]
    corpus = Path(folder) / "corpus"
    corpus.mkdir()
    for at, some in enumerate(known):
        for number, one in enumerate(some[:8]):
            (corpus / f"{at}-{number}").write_bytes(at.to_bytes(2, "big") + one)

    def changed(data: bytes, most: int, number: int) -> bytes:
        at = int.from_bytes(data[:2], "big") % len(chosen)
        if number % 8 == 0:
            at = number // 8 % len(chosen)
            data = at.to_bytes(2, "big") + Random(number).choice(known[at])
        if number % 2:
            return data[:2] + bytes(atheris.Mutate(data[2:], most - 2))
        made = hostile(Random(number), [data[2:], *known[at]])
        return at.to_bytes(2, "big") + made[: most - 2]

    def feed(data: bytes) -> None:
        target = chosen[int.from_bytes(data[:2], "big") % len(chosen)]
        try:
            fed(target, data[2:])
        except Exception as problem:
            told = f"{target.name}\n{type(problem).__name__}: {problem}\n".encode(errors="replace")
            (Path(folder) / "problem").write_bytes(told + data[2:])
            raise

    told = [
        sys.argv[0], f"-runs={runs}", f"-seed={seed + 1}", f"-max_len={MOST_BYTES}",
        "-timeout=60", f"-artifact_prefix={folder}/", "-verbosity=0", str(corpus),
    ]  # fmt: skip  # as libFuzzer reads them
    atheris.Setup(told, feed, custom_mutator=changed)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
