"""Tables are read with their types, and the first broken rule is named with file, line, column and value."""
import csv
import io
import os
import time

import pytest

from lib import paths, schema
from lib.schema import DataError, read_table

ROW = {
    "source": "own", "source_ref": "bench.txt", "model_name": "MobileNet v2", "model_id": "mobilenet_v2_1.0",
    "task_type": "image_classification", "dataset": "imagenet", "input_shape": "224x224x3", "precision": "int8",
    "device_name": "My board", "device_id": "my_board", "processor": "cpu", "runtime": "ncnn", "threads": "4",
    "batch_size": "1", "latency_ms": "12.5", "latency_stat": "mean", "latency_min_ms": "12", "latency_max_ms": "14.25",
    "date": "2026-05-01", "note": "line one\nline two",
}
COLUMNS = list(schema.MEASUREMENTS.columns)


def write(path, rows, columns=COLUMNS):
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8")
    return path


def refusal(path, table=schema.MEASUREMENTS, **options):
    with pytest.raises(DataError) as error:
        read_table(path, table, **options)
    message = str(error.value)
    assert "\n" not in message and len(message) < 500
    assert message.startswith(str(path))
    return message.removeprefix(str(path))


@pytest.mark.parametrize("validate", [True, False])
def test_types_and_empty_cells(tmp_path, validate):
    table = read_table(write(tmp_path / "m.csv", [ROW]), schema.MEASUREMENTS, validate=validate)
    row = table.iloc[0]
    assert (row["threads"], row["latency_ms"], row["note"]) == (4, 12.5, "line one\nline two")
    assert row[["power_mode", "energy_uj", "clock_mhz"]].isna().all()
    assert table["energy_uj"].dtype == float and table["power_mode"].dtype == "str"


def test_words_that_pandas_takes_for_missing_stay_words(tmp_path):
    path = write(tmp_path / "m.csv", [ROW | {"note": "NA", "device_name": "None", "power_mode": "nan"}])
    row = read_table(path, schema.MEASUREMENTS).iloc[0]
    assert list(row[["note", "device_name", "power_mode"]]) == ["NA", "None", "nan"]


@pytest.mark.parametrize(("column", "value", "rule"), [
    ("latency_ms", "-1", "> 0"),
    ("latency_ms", "0", "> 0"),
    ("latency_ms", "inf", "finite"),
    ("latency_ms", "12,5", "must be a number"),
    ("latency_ms", "12.5 ms", "must be a number"),
    ("latency_ms", "NA", "must be a number"),
    ("latency_ms", "nan", "must be a number"),
    ("latency_ms", "11", "must lie between latency_min_ms and latency_max_ms"),
    ("latency_ms", "15", "must lie between latency_min_ms and latency_max_ms"),
    ("threads", "2.5", "must be a whole number"),
    ("threads", "0", ">= 1"),
    ("precision", "float", "must be one of fp32, fp16"),
    ("processor", "", "must not be empty"),
    ("processor", "CPU", "must be one of cpu"),
    ("task_type", "classification", "must be one of image_classification"),
    ("date", "01.05.2026", "must match"),
    ("model_id", "MobileNet v2", "must match"),
    ("model_id", "", "must not be empty"),
    ("device_id", "my__board", "must match"),
    ("ram_kib", "-3", ">= 0"),
])
def test_a_bad_cell_is_named(tmp_path, column, value, rule):
    rows = [ROW, ROW | {"model_id": "resnet18"}, ROW | {"model_id": "resnet50", column: value}]
    message = refusal(write(tmp_path / "m.csv", rows))
    # Notes of two lines shift the lines of the file: the third row begins on line 6.
    assert message.startswith(f":6: column '{column}': value {value!r} is not allowed: ")
    assert rule in message


def test_the_first_violation_is_named_and_the_rest_counted(tmp_path):
    rows = [ROW | {"note": ""}, ROW | {"latency_ms": "-4", "latency_min_ms": ""}, ROW | {"precision": "fp8", "date": "now"}]
    message = refusal(write(tmp_path / "m.csv", rows))
    assert message.startswith(":3: column 'latency_ms': value '-4' is not allowed")
    assert message.endswith("(and 2 more)")


def test_a_repeated_row_is_refused(tmp_path):
    message = refusal(write(tmp_path / "m.csv", [ROW, ROW | {"latency_ms": "13"}, ROW]))
    assert message.startswith(":6: column 'source': value 'own' is not allowed: the row repeats an earlier one")
    devices = write(tmp_path / "d.csv", [{"device_id": "a", "ram_mib": 1}, {"device_id": "a", "ram_mib": 2}],
                    list(schema.DEVICES.columns))
    assert "(same device_id)" in refusal(devices, schema.DEVICES)


@pytest.mark.parametrize(("unit", "value"), [("%", "100.5"), ("%", "-0.1"), ("fraction", "1.2")])
def test_accuracy_must_fit_its_unit(tmp_path, unit, value):
    row = {c: ROW.get(c, "") for c in schema.ACCURACIES.columns} | {"metric": "top1", "unit": unit, "value": value}
    assert "must lie between 0 and 100 %" in refusal(write(tmp_path / "a.csv", [row], list(row)), schema.ACCURACIES)
    allowed = write(tmp_path / "a.csv", [row | {"unit": ""}], list(row))
    assert read_table(allowed, schema.ACCURACIES)["value"].iloc[0] == float(value)


def test_unknown_missing_and_double_columns(tmp_path):
    wrong = write(tmp_path / "m.csv", [], [c.replace("latency_ms", "latency_us") for c in COLUMNS])
    assert refusal(wrong) == ":1: column 'latency_us' is unknown in measurements: did you mean 'latency_ms'?"
    path = write(tmp_path / "m.csv", [], COLUMNS[1:])
    assert refusal(path) == ":1: column 'source' is missing"
    path.write_text(",".join([*COLUMNS, "source"]) + "\n")
    assert "given twice" in refusal(path)


def test_a_subset_of_columns_is_enough_where_the_caller_says_so(tmp_path):
    few = ["model_id", "input_shape", "precision", "latency_ms"]
    path = write(tmp_path / "m.csv", [{c: ROW[c] for c in few}], few)
    assert list(read_table(path, schema.MEASUREMENTS, required=["model_id", "latency_ms"]).columns) == few
    assert refusal(path, required=["device_id"]) == ":1: column 'device_id' is missing"
    bad = write(tmp_path / "m.csv", [{"model_id": "a", "latency_ms": "-1"}], ["model_id", "latency_ms"])
    assert "> 0" in refusal(bad, required=["model_id", "latency_ms"])


@pytest.mark.parametrize(("cut", "said"), [(-40, "cells, the header"), (-1, "unexpected end of data")])
def test_a_truncated_table_is_refused(tmp_path, cut, said):
    path = write(tmp_path / "m.csv", [ROW | {"note": ""}, ROW])
    path.write_text(path.read_text().rstrip("\n")[:cut])
    assert said in refusal(path) and refusal(path).startswith(":3: ")


def test_no_table_at_all(tmp_path):
    path = tmp_path / "m.csv"
    assert refusal(path) == ": cannot be read: No such file or directory"
    path.write_bytes(b"")
    assert "empty" in refusal(path)
    path.write_bytes(b"\xff\xfe" + "source,model".encode("utf-16-le"))
    assert refusal(path) == ":1: this is not a CSV table in UTF-8"
    path.write_bytes(b"\x00\x01" * 100)
    assert refusal(path) == ":1: this is not a CSV table in UTF-8"
    path.write_text("hello world\n")
    assert refusal(path) == ":1: column 'hello world' is unknown in measurements: columns.csv lists those it has"
    assert "cannot be read" in refusal(tmp_path)


@pytest.mark.parametrize("head", [b"", ",".join(COLUMNS).encode() + b"\n"], ids=["noise", "noise after a header"])
def test_a_hundred_megabytes_of_noise_are_refused_at_once(tmp_path, head):
    path = tmp_path / "m.csv"
    block = os.urandom(1 << 20)
    with path.open("wb") as file:
        file.write(head)
        for _ in range(100):
            file.write(block)
    start = time.perf_counter()
    refusal(path)
    assert time.perf_counter() - start < 2


def test_text_after_the_header_that_is_not_utf8(tmp_path):
    path = write(tmp_path / "m.csv", [ROW])
    path.write_bytes(path.read_bytes() + "größe".encode("latin-1"))
    assert "not UTF-8" in refusal(path)


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path):
    path = write(tmp_path / "m.csv", [ROW | {"note": "plain"}])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_table(path, schema.MEASUREMENTS)["source"].tolist() == ["own"]


def test_reading_without_checks_still_names_a_cell_that_is_no_number(tmp_path):
    path = write(tmp_path / "m.csv", [ROW, ROW | {"latency_ms": "fast"}])
    assert refusal(path, validate=False).startswith(":4: column 'latency_ms': value 'fast' is not allowed: must be a number")


def test_an_empty_table_has_its_types(tmp_path):
    table = read_table(write(tmp_path / "m.csv", []), schema.MEASUREMENTS)
    assert len(table) == 0 and table["latency_ms"].dtype == float


def test_every_column_is_described():
    for name, table in schema.SCHEMAS.items():
        for column in table.columns.values():
            assert column.description, f"{name}: {column.name}"


def test_a_table_is_found_by_its_place():
    facts = paths.FACTS
    assert schema.schema_of(facts / "ncnn" / "measurements.csv") is schema.MEASUREMENTS
    assert schema.schema_of(facts / "transfer" / "accuracies.csv") is schema.TRANSFER
    assert schema.schema_of(facts / "model_traits" / "models.csv").name == "model_traits/models"
    assert schema.schema_of(paths.REGISTRY / "models.csv").name == "registry/models"
    assert schema.schema_of(paths.DATA / "tokens" / "names.npz") is None
