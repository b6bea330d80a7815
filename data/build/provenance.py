"""Metadata of ``data/``: checksums, Croissant, and the tables of the data card.

Run after every intended change of a table; a test fails when they do not fit.
"""
from __future__ import annotations

import hashlib
import json
import re
from datetime import datetime
from pathlib import Path

import pandas as pd

from lib import paths, quirks, schema

#: Files that are not tables.
ARRAYS = {
    "names.npz": "Task tokens from class names: one sentence vector a name (all-MiniLM-L6-v2, 384 numbers)",
    "images.npz": "Task tokens from images: mean features of a class (EfficientNet-Lite0, 1280 numbers)",
}


def files(data: Path = paths.DATA) -> list[Path]:
    """Tables and arrays in the order of their paths; what the study writes to ``results`` is none of them."""
    found = (p for p in data.rglob("*") if p.suffix in (".csv", ".npz"))
    return sorted((p for p in found if p.relative_to(data).parts[0] != "results"),
                  key=lambda p: p.relative_to(data).as_posix())


def sha256(path: Path) -> str:
    """Checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksums(data: Path = paths.DATA) -> str:
    """One line a file, ``<sha256>  <path>``, as ``sha256sum --check`` reads them from within ``data``."""
    return "".join(f"{sha256(path)}  {path.relative_to(data).as_posix()}\n" for path in files(data))


def _facts(data: Path, name: str) -> pd.DataFrame:
    """All fact tables whose name begins so, with the folder that holds them."""
    return pd.concat([schema.read_table(p, schema.schema_of(p), validate=False).assign(folder=p.parent.name)
                      for p in sorted((data / "facts").glob(f"*/{name}*.csv"))], ignore_index=True)


def counts(data: Path = paths.DATA) -> pd.DataFrame:
    """Rows of each folder by kind of table, those never ranked, what its times and rates are; and a total."""
    tables = {name: _facts(data, name) for name in ("measurements", "accuracies", "models", "devices")}
    tables["measurements"] = quirks.add_flags(tables["measurements"])
    by_folder = tables["measurements"].groupby("folder")
    rows = {name: table["folder"].value_counts() for name, table in tables.items()}
    table = pd.DataFrame(rows | {"excluded": by_folder["excluded"].sum()}).sort_index()
    table = pd.concat([table, table.sum().to_frame("total").T]).fillna(0).astype(int)
    table["times and rates"] = by_folder["kind"].agg(lambda kinds: ", ".join(sorted(set(kinds) - {"none"})))
    return table.fillna("")


def flags(data: Path = paths.DATA) -> pd.DataFrame:
    """Every flag with its meaning, effect, sources and number of rows."""
    tables = {"measurements": quirks.add_flags(_facts(data, "measurements")),
              "accuracies": quirks.add_accuracy_flags(_facts(data, "accuracies"))}
    found = []
    for name, table in tables.items():
        for rule in quirks.rules(name).drop_duplicates("flag").itertuples():
            hit = quirks.has(table, rule.flag)
            sources = ", ".join(sorted(table.loc[hit, "source"].unique()))
            effect = rule.effect and ("row not ranked" if rule.effect == "row" else f"{rule.effect} not used")
            found.append((name, f"`{rule.flag}`", rule.meaning, sources, int(hit.sum()), effect))
    return pd.DataFrame(found, columns=["table", "flag", "meaning", "sources", "rows", "effect"])


def _markdown(table: pd.DataFrame) -> str:
    rows = [list(table.columns), ["---"] * table.shape[1], *table.astype(str).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def card(text: str, data: Path = paths.DATA) -> str:
    """The data card with its generated parts, between ``<!-- name -->`` and ``<!-- end -->``, renewed.

    Raises
    ------
    ValueError
        A pair of marks is missing.
    """
    sources = schema.read_table(data / "registry" / "sources.csv", schema.SOURCES).fillna("")
    parts = {
        "counts": _markdown(counts(data).reset_index(names="folder")),
        "flags": _markdown(flags(data)),
        "sources": "\n\n".join(
            f"### {s.name} (`{s.source}`)\n\nRepository `{s.repository}`, commit {s.commit} ({s.date}). "
            f"Licence: {s.licence}.\n\nMeasured: {s.how_measured}\n\nMind: {s.quirks}\n\nCite: {s.cite}"
            for s in sources.itertuples()),
    }
    for name, content in parts.items():
        marks = re.compile(f"(<!-- {name} -->\n).*?(\n<!-- end -->)", re.S)
        if not marks.search(text):
            raise ValueError(f"README.md: the marks <!-- {name} --> and <!-- end --> are missing")
        text = marks.sub(lambda found: f"{found[1]}\n{content}\n{found[2]}", text)
    return text


def croissant(data: Path = paths.DATA) -> dict[str, object]:
    """Croissant description: every file with its checksum, every column of every table with its meaning.

    Raises
    ------
    ValueError
        A file has no description: ``columns.csv`` lacks its table, or ``ARRAYS`` its name.
    """
    import mlcroissant as mlc

    distribution, records = [], []
    for path in files(data):
        place, table = path.relative_to(data).as_posix(), schema.schema_of(path)
        if table is None and path.name not in ARRAYS:
            raise ValueError(f"{place}: neither columns.csv nor data/build/provenance.py describes this file")
        distribution.append(mlc.FileObject(
            id=place, name=place, content_url=place, content_size=f"{path.stat().st_size} B",
            sha256=sha256(path), encoding_formats=["text/csv" if table else "application/x-npz"],
            description=f"Table with the layout '{table.name}'" if table else ARRAYS[path.name]))
        if table is None:
            continue
        name, fields = place.removesuffix(".csv"), []
        for column in pd.read_csv(path, nrows=0).columns:
            spec = table.columns[column]
            kind = mlc.DataType.TEXT if str(spec.dtype).startswith("str") else mlc.DataType.FLOAT
            origin = mlc.Source(file_object=place, extract=mlc.Extract(column=column))
            fields.append(mlc.Field(id=f"{name}/{column}", name=column, description=spec.description,
                                    data_types=[kind], source=origin))
        records.append(mlc.RecordSet(id=name, name=name, fields=fields))
    return mlc.Metadata(
        name="iot-pretrained-model-measurements", version="1.0.0", date_published=datetime(2026, 11, 24),
        description="Pre-trained models on IoT hardware: published on-device measurements in one schema. "
                    "README.md is the data card.",
        license=["https://spdx.org/licenses/MIT.html",
                 "Figures: licence of each source, registry/sources.csv"],
        url="https://arxiv.org/abs/2412.18972",
        creators=[mlc.Organization(name="The contributors of the study")],
        cite_as="CITATION.cff of the study, and the sources used (registry/sources.csv)",
        keywords=["pre-trained models", "Internet of Things", "on-device inference", "model selection"],
        data_collection="Figures that public sources published, in one schema; nothing was measured anew.",
        data_limitations=["Each source measures in its own way: figures of different kinds, sources or "
                          "precisions must not be pooled. Flags (registry/quirks.csv) name what limits a "
                          "figure's use."],
        distribution=distribution, record_sets=records).to_json()


def write(data: Path = paths.DATA) -> None:
    """Renew the generated parts of the data card, the description and the checksums."""
    readme = data / "README.md"
    readme.write_text(card(readme.read_text(encoding="utf-8"), data), encoding="utf-8")
    description = json.dumps(croissant(data), indent=1, ensure_ascii=False, default=str)
    (data / "croissant.json").write_text(description + "\n", encoding="utf-8")
    (data / "checksums.sha256").write_text(checksums(data), encoding="utf-8")
