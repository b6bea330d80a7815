"""Command line of the study: ``python -m lib recommend | train | add-device``; bad input gives one line and exit code 2."""
from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import NoReturn, Sequence

from lib import paths


class _Parser(argparse.ArgumentParser):
    """Errors in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    main = _Parser(prog="python -m lib", description="Recommend pre-trained models for IoT devices.")
    commands = main.add_subparsers(required=True, metavar="{recommend,train,add-device}")

    one = commands.add_parser("recommend", help="rank the models for a task on a device")
    one.set_defaults(run=_recommend)
    one.add_argument("--task", required=True, help="task_type/dataset of the registry, or a YAML file (task_type, classes, images)")
    one.add_argument("--device", required=True, help="device_id of the registry, or a YAML file of a board")
    one.add_argument("--processor", help="cpu, gpu, npu or mcu; default: the one that was measured most")
    one.add_argument("--runtime", help="such as ncnn, stedgeai, qnn")
    one.add_argument("--threads", type=int)
    one.add_argument("--weights", default="accuracy=1,latency=1", help="such as accuracy=2,latency=1,memory=1/2")
    one.add_argument("--candidates", help="CSV with columns of models.csv; default: every variant known for the task")
    one.add_argument("--ranker", default="shadow", help="shadow (default), fusion, or truth: measured figures only")
    one.add_argument("--measured", help="own measurements: CSV (model_id,input_shape,precision,latency_ms) or text of benchncnn")
    one.add_argument("--top", type=int, help="rows to print")
    one.add_argument("--format", default="table", choices=("table", "csv", "json"))
    one.add_argument("--out", help="write to this file instead of printing")
    one.add_argument("--data", default=paths.DATA, help="folder of the tables; default: those of the study, or STUDY_DATA")

    two = commands.add_parser("train", help="train the shipped rankers on the tables, into models/ beside them")
    two.set_defaults(run=_train)
    two.add_argument("--data", default=paths.DATA, help="folder of the tables")
    two.add_argument("--seed", type=int, default=0)
    two.add_argument("--held-out", action="store_true", help="measure the error on chips left out, into results/, instead")

    three = commands.add_parser("add-device", help="add a board and its measurements to your own copy of the tables")
    three.set_defaults(run=_add_device)
    three.add_argument("--board", required=True, help="YAML of the board: device_id and any columns of devices.csv")
    three.add_argument("--measurements", required=True, help="CSV of your own, or the text that benchncnn prints")
    three.add_argument("--data", default=os.environ.get("STUDY_DATA", "my_data"), help="your copy; default: my_data, made if needed")
    return main


def _recommend(format: str, out: str | None, **arguments: object) -> None:
    from lib.recommend import recommend, write

    text = write(recommend(**arguments), format, out)
    if out is None:
        print(text, end="", flush=True)


def _train(data: str, seed: int, held_out: bool) -> None:
    from lib import shipped
    from lib.benchmark import load_benchmark

    if held_out:
        made = [Path(data) / "results" / shipped.ERRORS]
        made[0].parent.mkdir(exist_ok=True)
        errors = shipped.held_out(load_benchmark(data), seed=seed, progress=True)
        errors.to_csv(made[0], index=False, float_format="%.4f", lineterminator="\n")
    else:
        made = shipped.train(data, seed, progress=True)
    for path in made:
        print(f"{path}: {path.stat().st_size / 2**10:.0f} KiB")


def _add_device(board: str, measurements: str, data: str) -> None:
    from lib.sources.own_board import add_device

    added = add_device(board, measurements, data)
    print(f"{len(added.measurements)} measurements added to {data}; use them with --data {data}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    options = vars(parser().parse_args(arguments))
    try:
        options.pop("run")(**options)
    except BrokenPipeError:  # the reader has seen enough, as in "| head"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, OSError) as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
