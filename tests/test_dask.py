"""Scale-out: on a cluster the same numbers as at home, even where a worker trains in several threads at once."""
from __future__ import annotations

import distributed
import pandas as pd
import pytest
from distributed import LocalCluster

from lib.baselines import MeanRank
from lib.evaluation import cross_validate, parallel
from lib.fusion import Fusion
from tests.helpers_queries import grid

RANKERS = {"Fusion": lambda seed: Fusion(seed=seed, epochs=3, dim=16, heads=2), "Mean rank": lambda seed: MeanRank()}
PRIORITIES = {"balanced": {"accuracy": 1, "latency": 1}, "fast": {"latency": 1}}


@pytest.fixture(scope="module")
def address() -> str:
    """Scheduler of two worker processes with two threads each."""
    with LocalCluster(n_workers=2, threads_per_worker=2, processes=True, dashboard_address=None) as cluster:
        yield cluster.scheduler_address


def run(n_jobs: int) -> pd.DataFrame:
    """Three folds, two seeds."""
    return cross_validate(RANKERS, grid(6, 2, 6), "unseen_device", PRIORITIES, n_folds=3, seeds=(0, 1), n_jobs=n_jobs)


def test_a_cluster_of_two_workers_gives_the_same_numbers(address, monkeypatch) -> None:
    home = run(n_jobs=1)
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", address)
    before = distributed.Client(address)
    done = len(before.get_task_stream())
    pd.testing.assert_frame_equal(run(n_jobs=-1), home)
    assert len(before.get_task_stream()) > done  # the cluster did the work
    assert len(before.scheduler_info()["workers"]) == 2
    before.close()


def test_the_client_is_closed_afterwards(address, monkeypatch) -> None:
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", address)
    with parallel():
        assert distributed.get_client().status == "running"
    with pytest.raises(ValueError):
        distributed.get_client()


def test_one_job_stays_at_home(monkeypatch) -> None:
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "tcp://127.0.0.1:1")  # nobody listens there
    assert len(run(n_jobs=1))
