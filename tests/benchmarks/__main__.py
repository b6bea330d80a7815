"""Speed of the parts beside their peers, in one run on this machine: ``make bench``.

    python -m tests.benchmarks            print the table
    python -m tests.benchmarks --save     also write data/results/bench.csv
"""
from __future__ import annotations

import argparse
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import torch

from tests.benchmarks.measures import (against_pref_voting, imports, many, rankers, recommending, save, score_many, table,
                                       training_step)


def main(arguments: list[str] | None = None) -> None:
    """Run everything, the slowest last."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--save", action="store_true", help="write data/results/bench.csv")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = [training_step(), against_pref_voting(2, 500, 100), against_pref_voting(10, 200, 100), against_pref_voting(100, 200, 100),
            many(2, 1_000_000, 3.0), many(10, 10_000, 1.0), recommending(),
            imports("lib.copeland", "pref_voting.profiles_with_ties"), *rankers("mcu")]
    # A process of its own, so that its peak memory is its own.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        rows += pool.submit(score_many).result()
    print(table(rows))
    if options.save:
        save(rows)


if __name__ == "__main__":
    main()
