"""Thresholds and scatter: the most specific row answers, and the table says what the facts say."""
from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from lib import noise, paths
from lib.metrics import METRICS


def test_sampling_error_is_binomial() -> None:
    assert noise.sampling_error(50, 100) == pytest.approx(5)
    assert noise.sampling_error(np.array([0.0, 90.0]), 900).tolist() == pytest.approx([0, 1])


def test_the_most_specific_row_answers() -> None:
    assert noise.noise("stm32")["latency"].threshold == 0.01
    assert noise.noise("ncnn+parc")["latency"] == noise.noise("own")["latency"] == (0.1, 0.058, False)
    assert set(noise.noise("nobody")) == set(METRICS)
    assert "memory" not in noise.noise("qaihub") and "memory" in noise.noise("stm32")


def test_few_test_images_make_wide_thresholds() -> None:
    task = "image_classification/imagenet"
    whole, part = (noise.noise(source, task, "top1", 76)["accuracy"] for source in ("ncnn+model_traits", "qaihub"))
    assert whole.threshold == pytest.approx(1.28 * np.sqrt(2) * 0.8 * 100 * np.sqrt(0.76 * 0.24 / 50000))
    assert part.threshold == pytest.approx(whole.threshold * np.sqrt(50)) and part.absolute
    assert part.threshold / part.scatter == pytest.approx(noise.ONE_IN_TEN)
    # no share of right answers, no size known, nothing lower than what the digits show
    assert noise.noise("qaihub", task, "map50_95", 40)["accuracy"].threshold == 0.1
    assert noise.noise("stm32", "image_classification/nobody", "top1", 76)["accuracy"].threshold == 0.1
    assert noise.noise("ncnn+model_traits", task, "top1", 99.99)["accuracy"].threshold == 0.1


def test_sizes_of_test_sets_are_those_of_the_facts() -> None:
    images = noise.table().query("metric == 'accuracy'")["images"].dropna()
    official = pd.concat([pd.read_csv(paths.FACTS / "transfer" / f"{n}.csv") for n in ("datasets", "datasets_more")]).groupby("slug")["test_size"].max()
    hub = pd.read_csv(paths.FACTS / "qaihub" / "accuracies.csv")
    stated = hub["note"].str.extract(r"(\d+) samples")[0].astype(float).groupby(hub["task_type"] + "/" + hub["dataset"]).unique()
    assert len(images) > 30
    for (source, _, task), size in images.items():
        if source == "*":
            assert size == official[re.sub("^image_classification/", "", task)], task
        elif source == "qaihub":
            assert stated[task].tolist() == [size], task
