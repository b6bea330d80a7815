"""The shipped tables: valid, unchanged, described for people and machines, and traceable to their sources."""
import json
import socket
import warnings

import pandas as pd
import pytest

from data.build import provenance
from lib import paths, schema

TABLES = [p for p in provenance.files() if p.suffix == ".csv"]
REMEDY = "run python -m data.build if the change is intended"


def place(path):
    return path.relative_to(paths.DATA).as_posix()


def facts(name):
    for path in sorted(paths.FACTS.glob(f"*/{name}.csv")):
        yield path.parent.name, schema.read_table(path, schema.schema_of(path), validate=False)


@pytest.mark.parametrize("path", TABLES, ids=place)
def test_a_table_keeps_its_schema(path):
    table = schema.schema_of(path)
    assert table is not None, f"columns.csv does not describe {place(path)}"
    assert len(schema.read_table(path, table)) or "overrides" in path.parts, "empty tables are not shipped"


def test_reading_without_checks_gives_the_same():
    path = paths.FACTS / "stm32" / "measurements.csv"
    checked, quick = (schema.read_table(path, schema.MEASUREMENTS, validate=v) for v in (True, False))
    pd.testing.assert_frame_equal(checked, quick)


def test_no_table_changed_by_accident():
    recorded = dict(line.split("  ")[::-1] for line in (paths.DATA / "checksums.sha256").read_text().splitlines())
    present = {place(p): provenance.sha256(p) for p in provenance.files()}
    changed = sorted(p for p in present.keys() | recorded.keys() if present.get(p) != recorded.get(p))
    assert not changed, f"{', '.join(changed)}: {REMEDY}"


def test_files_are_small_enough_for_a_clone():
    sizes = {place(p): p.stat().st_size for p in provenance.files()}
    assert max(sizes.values()) < 4e6, max(sizes, key=sizes.get)
    assert sum(sizes.values()) < 30e6


def test_every_fact_has_its_model_and_device():
    for source, table in facts("measurements"):
        for column, other in (("model_id", "models"), ("device_id", "devices")):
            known = schema.read_table(paths.FACTS / source / f"{other}.csv",
                                      schema.schema_of(paths.FACTS / source / f"{other}.csv"), validate=False)
            assert set(table[column]) <= set(known[column]), (source, column)


def test_every_source_is_described():
    sources = schema.read_table(paths.REGISTRY / "sources.csv", schema.SOURCES)
    folder = dict(zip(sources["source"], sources["folder"]))
    assert set(folder.values()) == {p.name for p in paths.FACTS.iterdir()}
    for path in TABLES:
        table = pd.read_csv(path, dtype=str)
        if path.is_relative_to(paths.FACTS) and "source" in table:
            assert set(table["source"]) <= set(folder), place(path)
            assert table["source_ref"].notna().all(), place(path)
            if path.parent.name not in ("transfer", "model_traits"):
                assert set(table["source"]) == {path.parent.name}


@pytest.mark.parametrize(("source", "row", "column", "value"), [
    ("mlperf_tiny", {"dataset": "speech_commands_v2", "date": "2022-11-09"}, "latency_ms", 1.48143),
    ("stm32", {"model_name": "semnasnet100_pt_224", "device_id": "stm32n6570_dk"}, "latency_ms", 22.97),
    ("ti", {"model_name": "mobilenet_v1_1.0_224.tflite", "latency_ms": 105.46}, "device_id", "am62"),
    ("axera", {"latency_ms": 5.411}, "runtime", "pulsar2"),
])
def test_figures_stand_as_published(source, row, column, value):
    table = dict(facts("measurements"))[source]
    found = table[(table[list(row)] == pd.Series(row)).all(axis=1)]
    assert value in set(found[column])


def test_row_counts_of_the_facts():
    table = provenance.counts()
    rows = table.loc["total", ["measurements", "accuracies", "models", "devices"]].tolist()
    assert rows == [28624, 22065, 4244, 219]
    assert table.drop("total")["measurements"].sum() == rows[0] and len(table) == 18
    assert table.loc["ncnn", ["measurements", "devices"]].tolist() == [7741, 91]


def test_the_data_card_fits_the_tables():
    text = (paths.DATA / "README.md").read_text(encoding="utf-8")
    assert provenance.card(text) == text, REMEDY
    for heading in ("Motivation", "Composition", "Collection", "Uses", "Limits", "Licence, citation, maintenance"):
        assert f"\n## {heading}\n" in text
    with pytest.raises(ValueError, match="<!-- counts -->"):
        provenance.card("no marks")


def test_croissant_describes_every_file_and_column():
    described = json.loads((paths.DATA / "croissant.json").read_text(encoding="utf-8"))
    assert described == json.loads(json.dumps(provenance.croissant(), default=str)), REMEDY
    assert {f["contentUrl"] for f in described["distribution"]} == {place(p) for p in provenance.files()}
    assert all(len(f["sha256"]) == 64 and f["encodingFormat"] for f in described["distribution"])
    fields = {r["@id"] + ".csv": {f["name"]: f["description"] for f in r["field"]} for r in described["recordSet"]}
    for path in TABLES:
        assert list(fields[place(path)]) == list(pd.read_csv(path, nrows=0).columns)
        assert all(fields[place(path)].values())


def test_croissant_is_valid_and_opens_without_a_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the network was asked for something")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of rdflib
        import mlcroissant as mlc

        dataset = mlc.Dataset(jsonld=str(paths.DATA / "croissant.json"))
        issues = dataset.metadata.ctx.issues
        assert not issues.errors and not issues.warnings, issues.report()
        rows = list(dataset.records("facts/coral/measurements"))
    table = dict(facts("measurements"))["coral"]
    assert [float(r["facts/coral/measurements/latency_ms"]) for r in rows] == table["latency_ms"].tolist()
