"""The command line: bad input gives exit code 2 and one line, good input a table that reads back."""
from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import pandas as pd
import pytest

from lib import paths
from lib.__main__ import main
from lib.recommend import COLUMNS

FLOWERS, H747 = "image_classification/flowers", "stm32h747i_disco"
FILES = {
    "m7.yaml": "core_type: Cortex-M7\nclock_mhz: 550\n",
    "broken.yaml": "core_type: [1,2\n", "unknown_key.yaml": "core_type: Cortex-M7\nclok_mhz: 550\n", "twice.yaml": "cores: 1\ncores: 2\n",
    "negative.yaml": "core_type: Cortex-M7\nclock_mhz: -5\n", "type.yaml": "core_type: Cortex-M7\nclock_mhz: fast\n",
    "nan.yaml": "core_type: Cortex-M7\nclock_mhz: .nan\n", "bool.yaml": "core_type: Cortex-M7\nclock_mhz: true\n", "empty.yaml": "",
    "list.yaml": "- a\n- b\n", "nothing.yaml": "os: linux\n", "class.yaml": "device_class: toaster\n", "noise.yaml": "\0\1\2\x7f" * 99,
    "columns.csv": "foo,bar\n1,2\n", "useless.csv": "family,year\nresnet,2019\n", "rowless.csv": "model_id\n",
    "precision.csv": "model_id,precision\nmobilenet_v2_0.35,int3\n", "unknown.csv": "model_id\nmobilnet_v2\n",
    "double.csv": "model_id,input_shape,precision\n" + "mobilenet_v2_0.35,128x128x3,int8\n" * 2, "minus.csv": "model_id,params_m\nx,-3\n",
    "strange.csv": "model_id,input_shape,precision,latency_ms\nresnet18,224x224x3,fp32,10\n",
    "time.csv": "model_id,input_shape,precision,latency_ms\nmobilenet_v2_0.35,128x128x3,int8,-10\n", "header.csv": "model,lat\na,1\n",
    "cut.txt": "loop_count = 8\nnum_threads = 4\npowersave = 0\ngpu_device = -1\n  resnet18  min = 20.1\n",
    "task_type.yaml": "task_type: image_clasification\nclasses: [rose, tulip]\n", "one.yaml": "task_type: image_classification\nclasses: [rose]\n",
    "classless.yaml": "task_type: image_classification\n", "word.yaml": "task_type: image_classification\nclasses: rose\n",
    "nowhere.yaml": "task_type: image_classification\nclasses: [rose, tulip]\nimages: nowhere\n",
    "single.yaml": "task_type: image_classification\nimages: single\n", "repeat.yaml": "task_type: image_classification\nclasses: [rose, rose]\n",
    "yes.yaml": "task_type: image_classification\nclasses: [yes, no]\n", "extra.yaml": "task_type: image_classification\nclasses: [a, b]\nfoo: 1\n",
    "gibberish.yaml": "task_type: image_classification\nclasses: [zzqxw, blorgh]\n",
}
BAD = {
    "task": "image_classification/flower", "no name": "", "task file": "missing.yaml", "task_type": "task_type.yaml", "one class": "one.yaml",
    "no classes": "classless.yaml", "classes no list": "word.yaml", "no folder": "nowhere.yaml", "one picture class": "single.yaml",
    "class twice": "repeat.yaml", "yes and no": "yes.yaml", "task key": "extra.yaml", "class without vector": "gibberish.yaml",
    "task without candidates": "speech_recognition/librispeech",
}
BAD_DEVICES = ["stm32h747", "missing.yaml", "broken.yaml", "unknown_key.yaml", "twice.yaml", "negative.yaml", "type.yaml", "nan.yaml", "bool.yaml",
               "empty.yaml", "list.yaml", "nothing.yaml", "class.yaml", "noise.yaml"]
BAD_OPTIONS = [
    *(f"--weights {w}" for w in ("accuracy", "accuracy=x", "accuracy=-1", "speed=1", "accuracy=0,latency=0", "accuracy=1,accuracy=2", "accuracy=1/0",
                                 "accuracy=nan", "energy=1")),
    "--ranker magic", "--format xml", "--top 0", "--top -3", "--top many", "--threads 0", "--threads 64", "--processor tpu", "--processor gpu",
    "--runtime ncn", "--nonsense", "--out /nowhere/at/all.csv", "--out .", "--data nowhere",
    *(f"--candidates {f}" for f in ("missing.csv", "noise.yaml", "columns.csv", "useless.csv", "rowless.csv", "precision.csv", "unknown.csv",
                                    "double.csv", "minus.csv")),
    *(f"--measured {f}" for f in ("missing.csv", "noise.yaml", "empty.yaml", "strange.csv", "time.csv", "header.csv", "cut.txt")),
    "--device m7.yaml --ranker truth", "--device m7.yaml --processor npu", "--device raspberry_pi_5 --ranker truth",
]
HINTS = {"task": "did you mean image_classification/flowers", "stm32h747": "did you mean stm32h747i_disco", "unknown_key.yaml": "clock_mhz",
         "task_type": "did you mean image_classification", "--runtime ncn": "ncnn", "unknown.csv": "did you mean", "--processor gpu": "it has: mcu",
         "--threads 64": "1 cores", "--ranker truth": "not measured", "--data nowhere": "nowhere", "strange.csv": "among the"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("inputs")
    for name, text in FILES.items():
        (place / name).write_text(text)
    (place / "single" / "rose").mkdir(parents=True)
    return place


@pytest.fixture
def run(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)

    def call(*arguments: str) -> tuple[int, str, str]:
        try:
            code = main(list(arguments))
        except SystemExit as end:  # argparse
            code = end.code
        return code, *capsys.readouterr()

    return call


def _refused(result: tuple[int, str, str], case: str) -> None:
    code, out, err = result
    assert code == 2 and out == "" and err.startswith("error: ") and err.count("\n") == 1, result
    assert "Traceback" not in err
    hint = next((h for key, h in HINTS.items() if key == case or case.endswith(key)), "")
    assert hint in err, err


@pytest.mark.parametrize("case", BAD)
def test_bad_tasks(run, case):
    _refused(run("recommend", "--task", BAD[case], "--device", H747), case)


@pytest.mark.parametrize("device", BAD_DEVICES)
def test_bad_devices(run, device):
    _refused(run("recommend", "--task", FLOWERS, "--device", device), device)


@pytest.mark.parametrize("options", BAD_OPTIONS)
def test_bad_options(run, options):
    _refused(run("recommend", "--task", FLOWERS, "--device", H747, *options.split(" ")), options)


@pytest.mark.parametrize("arguments", ["", "recommend", "frobnicate", "recommend --task x", "add-device --board m7.yaml --measurements time.csv"])
def test_bad_commands(run, arguments):
    _refused(run(*arguments.split()), arguments)


def test_a_failed_run_leaves_the_old_file(run, folder):
    (folder / "old.csv").write_text("old")
    before = set(os.listdir(folder))
    _refused(run("recommend", "--task", FLOWERS, "--device", H747, "--out", "old.csv", "--format", "csv", "--weights", "energy=1"), "")
    assert (folder / "old.csv").read_text() == "old" and set(os.listdir(folder)) == before


def test_csv_and_json_read_back_the_same(run, folder):
    code, text, err = run("recommend", "--task", FLOWERS, "--device", H747, "--format", "csv", "--top", "5")
    table = pd.read_csv(io.StringIO(text))
    assert code == 0 and err == "" and list(table) == COLUMNS and len(table) == 5
    code, out, _ = run("recommend", "--task", FLOWERS, "--device", H747, "--format", "json", "--top", "5", "--out", "five.json")
    records = json.loads((folder / "five.json").read_text())
    assert code == 0 and out == "" and list(records[0]) == COLUMNS
    assert [r["model_id"] for r in records] == table["model_id"].tolist()
    assert records[0]["energy_uj"] is None and records[0]["latency_ms"] == table["latency_ms"][0]


def test_a_table_names_the_platform_and_every_row(run):
    code, text, _ = run("recommend", "--task", FLOWERS, "--device", "m7.yaml", "--weights", "accuracy=2,latency=1")
    lines = text.splitlines()
    assert code == 0 and "m7 (mcu, stedgeai)" in lines[0] and "accuracy 2, latency 1" in lines[0]
    assert lines[2].split() == COLUMNS and len(lines) == 3 + 14
    assert lines[3].split()[0] == "1" and "predicted" in lines[3]


def test_aliases_are_understood(run):
    devices = pd.read_csv(paths.REGISTRY / "devices.csv", keep_default_na=False)
    alias, name = devices.loc[(devices["aliases"] != "") & (devices["device_class"] == "sbc"), ["aliases", "device_id"]].iloc[0]
    code, text, _ = run("recommend", "--task", "image_classification/imagenet", "--device", alias.split("|")[0], "--top", "1")
    assert code == 0 and f" on {name} " in text


def test_as_a_program_it_exits_with_two_and_one_line(folder):
    done = subprocess.run([sys.executable, "-m", "lib", "recommend", "--task", FLOWERS, "--device", str(folder / "broken.yaml")],
                          capture_output=True, text=True, cwd=paths.ROOT)
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1 and done.stderr.startswith("error: ")


def test_a_reader_that_has_seen_enough_is_no_error():
    command = [sys.executable, "-m", "lib", "recommend", "--task", FLOWERS, "--device", H747]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=paths.ROOT)
    running.stdout.close()
    assert running.stderr.read() == "" and running.wait() == 0
    running.stderr.close()


def test_a_board_of_ones_own_is_added_and_ranked(run, folder):
    (folder / "own.yaml").write_text("device_id: my_board\ndevice_class: sbc\ncore_type: cortex-a76\ncores: 4\nclock_mhz: 2000\n")
    (folder / "own.txt").write_text("loop_count = 8\nnum_threads = 4\npowersave = 0\ngpu_device = -1\ncooling_down = 1\n" + "".join(
        f"{name:>20}  min = {t:7.2f}  max = {t + 1:7.2f}  avg = {t + 0.5:7.2f}\n" for name, t in (("squeezenet", 20), ("mobilenet", 30), ("resnet18", 60))))
    code, text, err = run("add-device", "--board", "own.yaml", "--measurements", "own.txt", "--data", "mine")
    assert code == 0 and "3 measurements" in text, err
    code, text, err = run("recommend", "--task", "image_classification/imagenet", "--device", "my_board", "--data", "mine", "--format", "csv")
    table = pd.read_csv(io.StringIO(text))
    assert code == 0 and table.loc[table["model_id"] == "resnet18", "latency_ms"].eq(60.5).all(), err
    assert table["evidence"].str.contains("latency measured by own").any() and (table["latency_kind"] == "predicted").any()
