"""Registries: one row per architecture, device and task, rebuilt from the facts, with every name resolved."""
import re
import shutil
from fractions import Fraction

import pandas as pd
import pytest

from data.build import registry as build
from lib import paths, registry

OVERRIDES = paths.REGISTRY / "overrides"
KINDS = ("published", "computed", "data sheet", "common knowledge")


@pytest.fixture(scope="module")
def built():
    return build.build()


@pytest.fixture(scope="module")
def names(built):
    return {key: registry.lookup(table, key) for key, table in
            zip(("model_id", "device_id", "task"), built)}


def rows(table, **where):
    for column, value in where.items():
        table = table[table[column] == value]
    return table


def cell(table, column, **where):
    return rows(table, **where).iloc[0][column]


@pytest.mark.parametrize("name", ["models", "devices", "tasks", "model_shapes"])
def test_committed_tables_are_those_of_a_rebuild(built, name):
    committed = (paths.REGISTRY / f"{name}.csv").read_text(encoding="utf-8")
    rebuilt = getattr(built, name).to_csv(index=False, lineterminator="\n")
    assert rebuilt == committed, "run python -m data.build"


def test_a_rebuild_does_not_depend_on_the_run(built):
    for again, table in zip(build.build(), built):
        pd.testing.assert_frame_equal(again, table)


# ---- aliases

def test_no_alias_points_to_two_rows(built):
    for table, key in zip(built, ("model_id", "device_id", "task")):
        known = registry.lookup(table, key)
        assert table[key].is_unique and set(known.values()) == set(table[key])
        aliases = [a for text in table["aliases"] for a in text.split("|") if a]
        assert len(aliases) == len(set(aliases)) and not set(aliases) & set(table[key])


def test_an_ambiguous_alias_is_refused():
    table = pd.DataFrame({"model_id": ["a", "b"], "aliases": ["x", "y|x"]})
    with pytest.raises(ValueError, match="'x' belongs to 'a' and to 'b'"):
        registry.lookup(table, "model_id")
    with pytest.raises(ValueError, match="'b' belongs to 'b' and to 'a'"):
        registry.lookup(pd.DataFrame({"model_id": ["a", "b"], "aliases": ["b", ""]}), "model_id")


def test_every_fact_row_resolves(names):
    """Models, devices, tasks and pre-training sets of every row of every table."""
    checked = 0
    for path in sorted(paths.FACTS.glob("*/*.csv")):
        table, place = registry.read(path), f"{path.parent.name}/{path.name}"
        for column in ("model_id", "device_id"):
            used = set(table.get(column, [])) - {""}
            assert used <= set(names[column]), (place, column, sorted(used - set(names[column]))[:5])
            checked += len(used)
        if {"task_type", "dataset"} <= set(table) and path.stem in ("measurements", "accuracies", "models"):
            tasks = set(table["task_type"] + "/" + table["dataset"])
            assert tasks <= set(names["task"]), (place, sorted(tasks - set(names["task"])))
        for column in {"target_dataset", "task_datasets"} & set(table):
            targets = {f"image_classification/{t}" for text in table[column] for t in text.split("|")}
            assert targets <= set(names["task"]), (place, sorted(targets - set(names["task"])))
        if path.stem.startswith("transferability_scores"):
            assert {f"image_classification/{t}" for t in table["dataset"]} <= set(names["task"]), place
        for pretrained in set(table.get("pretrain_dataset", [])) - {""}:
            assert build.pretraining_parent(pretrained), (place, pretrained)
    assert checked > 4000


@pytest.mark.parametrize(("alias", "model"), [
    ("vit_b_16", "vit_b16"), ("mobilenet_v2_1.0_pt", "mobilenet_v2_1.0"), ("dla46c_pt", "dla46c"),
    ("mobilenetv2_100", "mobilenet_v2_1.0"), ("regnetx_002_pt", "regnet_x_200mf"),
    ("shufflenet_v2_0.5_pt", "shufflenet_v2_0.5"),
    ("stm32:squeezenet_1.0", "st_squeezenet_1.0"), ("squeezenet_1.0", "squeezenet_1.0"),
])
def test_spellings_of_one_network_share_a_row(names, alias, model):
    assert names["model_id"][alias] == model


@pytest.mark.parametrize(("one", "other"), [
    ("resnet50", "resnet50_v1.5"), ("resnet50", "resnet50_v2"), ("resnet50", "resnet50_v1d"),
    ("regnet_y_8.0gf", "regnet_y_8.0gf_tv"), ("vit_b16", "vit_b32"), ("vit_b16", "vit_b"),
    ("vit_b_16_bn", "vit_b16"), ("maxvit_tiny", "maxvit_tiny_tf"), ("googlenet", "inception_v1"),
    ("regnet_x_400mf", "regnet_x_400mf_pycls"),
    ("mobilenet_v1_0.25", "mobilenet_v1_b_0.25_pt"), ("deit_small", "deit_small_distilled"),
    ("mobilenet_v3_large", "mobilenet_v3_large_minimalistic"), ("wideresnet50", "wide_resnet50_4"),
    ("fd_mobilenet_0.25", "st_fd_mobilenet_v1"), ("mnasnet", "mnasnet_1.0"), ("squeezenet", "squeezenet_1.1"),
])
def test_different_networks_stay_apart(names, one, other):
    assert names["model_id"][one] != names["model_id"][other]


def test_members_of_a_merged_row_agree_in_size(built):
    """Merged ids that state parameters of their own differ by less than 10 % where they share the classes."""
    alias = registry.lookup(built.models, "model_id")
    stated = []
    for source in ("stm32", "hailo", "qaihub", "torchvision", "ncnn", "nxp"):
        table = registry.read(paths.FACTS / source / "models.csv")
        table = table[(table["params_m"] != "") & (table["dataset"] == "imagenet")]
        stated.append(table.assign(source=source))
    table = pd.concat(stated)
    table["params"] = table["params_m"].astype(float)
    table["row"] = [alias.get(f"{s}:{m}", alias[m]) for s, m in zip(table["source"], table["model_id"])]
    spread = table.groupby("row")["params"].agg(lambda v: v.max() / v.min() - 1)
    # The auxiliary classifier of Inception v3, a figure of ST that its notes doubt, a head without classes.
    excused = {"inception_v3", "mobilenet_v1_1.0", "mobilenet_v1_0.25"}
    assert set(spread[spread > 0.10].index) <= excused, spread[spread > 0.10]


# ---- models

def mobilenet_v1(width, size, classes):
    """Parameters and MACs (millions) of MobileNet v1, from its paper's table (a bias in the classifier only)."""
    channels = [int(width * c) for c in (32, 64, 128, 128, 256, 256, *[512] * 6, 1024, 1024)]
    strides = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
    side = -(-size // 2)
    params, macs = 27 * channels[0] + 2 * channels[0], 27 * channels[0] * side**2
    for inner, outer, stride in zip(channels, channels[1:], strides):
        side = -(-side // stride)
        params += 9 * inner + 2 * inner + inner * outer + 2 * outer
        macs += (9 * inner + inner * outer) * side**2
    return (params + (channels[-1] + 1) * classes) / 1e6, (macs + channels[-1] * classes) / 1e6


@pytest.mark.parametrize(("model", "width"), [("mobilenet_v1_0.25", 0.25), ("mobilenet_v1_0.5", 0.5),
                                              ("mobilenet_v1_0.75", 0.75), ("mobilenet_v1_1.0", 1.0)])
def test_counted_figures_follow_from_the_layers(built, model, width):
    params, macs = mobilenet_v1(width, 224, 1000)
    assert float(cell(built.models, "params_m", model_id=model)) == pytest.approx(params, rel=2e-3)
    assert float(cell(built.models, "macs_m", model_id=model)) == pytest.approx(macs, rel=2e-2)


def test_vgg16_follows_from_its_layers(built):
    channels = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    sides = [224] * 2 + [112] * 2 + [56] * 3 + [28] * 3 + [14] * 3
    dense = 25088 * 4096 + 4096 * 4096 + 4096 * 1000
    params = sum(9 * i * o + o for i, o in zip(channels, channels[1:])) + dense + 4096 + 4096 + 1000
    macs = sum(9 * i * o * s * s for i, o, s in zip(channels, channels[1:], sides)) + dense
    assert float(cell(built.models, "params_m", model_id="vgg16")) == pytest.approx(params / 1e6, rel=1e-6)
    assert float(cell(built.models, "macs_m", model_id="vgg16")) == pytest.approx(macs / 1e6, rel=1e-3)


def test_counts_agree_with_what_sources_publish():
    counted = registry.read(OVERRIDES / "figures.csv")
    counted = counted[counted["kind"].str.startswith("computed:")]
    published = registry.read(paths.FACTS / "torchvision" / "models.csv")
    both = counted.merge(published, on=["model_id", "input_shape"], suffixes=("", "_published"))
    error = both["macs_m"].astype(float) / both["macs_m_published"].astype(float) - 1
    assert len(both) > 60 and error.abs().quantile(0.9) < 0.01 and error.abs().max() < 0.06


def test_parameters_taken_from_int8_weights(built):
    """One byte a parameter: close where the count is known, and as published where it is used."""
    alias = registry.lookup(built.models, "model_id")
    known = pd.to_numeric(built.models.set_index("model_id")["params_m"])
    table = registry.read(paths.FACTS / "stm32" / "measurements.csv")
    table = table[(table["precision"] == "int8") & (table["flash_weights_kib"] != "")]
    table = table.assign(row=[alias.get(f"stm32:{m}", alias[m]) for m in table["model_id"]],
                         bytes=table["flash_weights_kib"].astype(float) * 1024 / 1e6)
    taken = registry.read(OVERRIDES / "figures.csv")
    taken = taken[taken["kind"].str.contains("int8 weights")].set_index("model_id")["params_m"].astype(float)
    counted = rows(table[~table["row"].isin(taken.index)], dataset="imagenet")
    ratio = counted["bytes"] / counted["row"].map(known)
    assert len(set(counted["row"])) > 40 and 0.98 < ratio.median() < 1.05 and ratio.max() < 1.25
    for model, params in taken.items():
        stated = table[table["row"] == model]["bytes"]
        assert stated.min() * 0.99 <= params <= stated.max() * 1.01, model


def test_published_exact_counts_are_preferred(built):
    assert cell(built.models, "params_m", model_id="mobilenet_v2_1.0") == "3.504872"
    assert "params_m=published:torchvision" in cell(built.models, "provenance", model_id="mobilenet_v2_1.0")
    # Two sources and the count leave the auxiliary classifier out that torchvision counts.
    assert float(cell(built.models, "params_m", model_id="inception_v3")) == pytest.approx(23.8, abs=0.05)


def test_disagreements_are_named(built):
    text = cell(built.models, "conflict", model_id="resnet50")
    share, low, high = re.fullmatch(r"macs_m (\d+)% \(\w+ ([\d.]+), \w+ ([\d.]+)\)", text).groups()
    assert int(share) == round(100 * (Fraction(high) / Fraction(low) - 1)) > 10
    assert cell(built.models, "conflict", model_id="resnet18") == ""
    assert cell(built.models, "note", model_id="resnet50")


def test_one_spelling_per_family(built):
    families = set(built.models["family"])
    for one, others in {"deeplabv3": {"deeplab_v3", "deeplab_v3_plus"}, "wide_resnet": {"wideresnet"},
                        "regnet": {"regnet_x", "regnet_y"}, "dla": {"dla102x"}, "ssd": {"ssd_mobilenet_v1"},
                        "mobilenet_v2": {"mobilenetv2"}, "sequencer": {"sequencer2d"}}.items():
        assert one in families and not others & families
    rules = registry.read(OVERRIDES / "families.csv")["prefix"]
    assert rules.is_unique
    assert set(built.models["architecture"]) <= {"cnn", "transformer", "hybrid", "mlp", "rnn", ""}


def test_the_networks_of_the_suites_have_their_traits(built):
    """Every classifier that ncnn, ST or AI Hub measured has parameters and MACs, but for makers' own ones."""
    alias = registry.lookup(built.models, "model_id")
    used = set()
    for source in ("ncnn", "stm32", "qaihub"):
        table = registry.read(paths.FACTS / source / "measurements.csv")
        table = rows(table, task_type="image_classification")
        used |= {alias.get(f"{source}:{m}", alias[m]) for m in table["model_id"]}
    table = built.models[built.models["model_id"].isin(used)]
    bare = table[(table[["params_m", "macs_m", "family"]] == "").any(axis=1)]["model_id"]
    assert len(table) >= 100 and len(bare) <= 15
    assert all(re.match("st_|resnet32|gpunet|openai_clip", model) for model in bare)


# ---- traits

def test_traits_of_a_stated_shape(built):
    found = registry.traits(built.models, built.model_shapes, "resnet18", "224x224x3")
    assert found["macs_m"] == 1814 and found["params_m"] == pytest.approx(11.69, abs=0.01)
    assert found == registry.traits(built.models, built.model_shapes, "resnet18", "224x224")
    assert found == registry.traits(built.models, built.model_shapes, "resnet18")
    assert "published" in found["provenance"] and found["input_shape"] == "224x224x3"


def test_traits_scale_with_the_image_of_a_convolutional_network(built):
    base = registry.traits(built.models, built.model_shapes, "resnet18", "224x224x3")
    large = registry.traits(built.models, built.model_shapes, "resnet18", "448x448x3")
    assert large["macs_m"] == pytest.approx(4 * base["macs_m"], rel=2e-3)
    assert large["macts_m"] == pytest.approx(4 * base["macts_m"], rel=0.02)
    assert large["params_m"] == base["params_m"] and large["provenance"].startswith("computed")


def test_scaling_comes_close_to_a_count(built):
    shapes = built.model_shapes[~((built.model_shapes["model_id"] == "mobilenet_v2_1.0") &
                                  (built.model_shapes["input_shape"] != "224x224x3"))]
    scaled = registry.traits(built.models, shapes, "mobilenet_v2_1.0", "128x128x3")["macs_m"]
    counted = registry.traits(built.models, built.model_shapes, "mobilenet_v2_1.0", "128x128x3")["macs_m"]
    assert scaled == pytest.approx(counted, rel=0.05) and scaled != counted


def test_traits_claim_nothing_beyond_the_facts(built):
    assert registry.traits(built.models, built.model_shapes, "vit_b16", "1000x1000x3")["macs_m"] is None
    assert registry.traits(built.models, built.model_shapes, "ds_cnn", "99x99")["macs_m"] is None
    with pytest.raises(ValueError, match="no architecture 'nobody'"):
        registry.traits(built.models, built.model_shapes, "nobody")


def test_traits_read_the_committed_tables_too():
    models, shapes = (pd.read_csv(paths.REGISTRY / f"{t}.csv") for t in ("models", "model_shapes"))
    assert registry.traits(models, shapes, "resnet18")["macs_m"] == 1814
    assert registry.traits(models, shapes, "vit_b")["params_m"] is None


@pytest.mark.parametrize(("text", "shape"), [("224x224", "224x224x3"), ("224x224x3", "224x224x3"), ("", ""),
                                             ("49x10x1", "49x10x1"), ("64x2048", "64x2048"), ("490", "490")])
def test_canonical_shapes(text, shape):
    assert registry.canonical_shape(text) == shape


# ---- devices

def test_clusters_say_what_the_columns_say(built):
    table = built.devices[built.devices["clusters"] != ""]
    for row in table.itertuples():
        pattern = r"(\d+)x([a-z0-9.+-]+?)(?:@([\d.]+))?"
        parts = [re.fullmatch(pattern, part).groups() for part in row.clusters.split()]
        assert sum(int(n) for n, _, _ in parts) == int(row.cores), row.device_id
        assert "+".join(dict.fromkeys(core for _, core, _ in parts)) == row.core_type, row.device_id
        assert row.clock_mhz == (parts[0][2] or ""), row.device_id
        clocks = [float(mhz) for _, _, mhz in parts if mhz]
        assert clocks == sorted(clocks, reverse=True), row.device_id
    assert len(table) > 160


@pytest.mark.parametrize(("device", "fp32", "int8"), [
    ("raspberry_pi_5", 4 * 2400 * 8, 4 * 2400 * 32),  # A76: two 128-bit pipes, dot products
    ("raspberry_pi_4b", 4 * 1800 * 4, 4 * 1800 * 8),
    ("orange_pi_5", 4 * 2400 * 8 + 4 * 1800 * 4, 4 * 2400 * 32 + 4 * 1800 * 16),
    ("stm32h747i_disco", None, 480 * 2), ("stm32n6570_dk", 800 * 2, 800 * 8),
])
def test_peaks_follow_the_formula(built, device, fp32, int8):
    row = rows(built.devices, device_id=device).iloc[0]
    assert float(row["peak_gmacs_int8"]) == pytest.approx(int8 / 1000)
    assert row["peak_gmacs"] == "" if fp32 is None else float(row["peak_gmacs"]) == pytest.approx(fp32 / 1000)


def test_dot_products_are_known_for_the_boards(built):
    flags = built.devices.set_index("device_id")["dotprod"]
    assert flags[["raspberry_pi_5", "rk3588", "samsung_galaxy_s24", "jetson_orin_nano"]].eq("1").all()
    assert flags[["raspberry_pi_4b", "raspberry_pi_3b_plus", "rk3399", "stm32f401"]].eq("0").all()


@pytest.mark.parametrize("group", [
    ["rk3588", "orange_pi_5", "orange_pi_5_plus", "radxa_rock_5b", "station_m3"],
    ["raspberry_pi_4b", "raspberry_pi_4b_1500mhz"], ["jetson_agx_orin", "jetson_orin_nano"],
    ["snapdragon_855_plus", "xiaomi_mi_9"], ["snapdragon_835", "xiaomi_mi_6"],
    ["rk3566", "rk3568", "station_m2", "station_p2", "orange_pi_cm4", "radxa_zero_3w", "radxa_rock_3a"],
    ["snapdragon_8_gen_2", "qcs8550_proxy"], ["sa8775p_adp", "dragonwing_iq_9075_evk"],
    ["stm32mp257f_dk2", "stm32mp257f_ev1"], ["nucleo_u575zi_q", "b_u585i_iot02a"],
])
def test_boards_with_one_chip_share_a_group(built, group):
    assert len(set(built.devices[built.devices["device_id"].isin(group)]["soc_group"])) == 1
    assert set(group) <= set(built.devices["device_id"])


def test_chips_of_their_own_do_not(built):
    groups = built.devices.set_index("device_id")["soc_group"]
    for one, other in (("rk3588", "rk3576"), ("raspberry_pi_4b", "raspberry_pi_5"), ("hailo_8", "hailo_8l"),
                       ("stm32h747i_disco", "nucleo_h7a3zi_q"), ("samsung_galaxy_s24", "samsung_galaxy_s25"),
                       ("loongson_2k1000", "loongson_2k1000la"), ("jetson_nano", "jetson_orin_nano")):
        assert groups[one] != groups[other]


def test_vocabularies_of_devices(built):
    words = {"isa": r"[a-z0-9_.+-]+", "core_type": r"[a-z0-9.+-]+", "simd": r"[a-z0-9.+]+", "dotprod": "[01]",
             "mem_type": "SRAM|(LP)?DDR\\d?L?X?", "l1_kib": r"\d+"}
    for column, pattern in words.items():
        odd = built.devices[(built.devices[column] != "") & ~built.devices[column].str.fullmatch(pattern)]
        assert odd.empty, (column, odd[["device_id", column]].to_dict("records"))
    small = built.devices[built.devices["device_class"] == "mcu"]
    memory = pd.to_numeric(small["ram_mib"])
    assert memory[~small["device_id"].str.startswith("andescore")].max() < 8, "memory is in MiB"


@pytest.mark.parametrize("name", ["models", "devices", "model_shapes"])
def test_every_filled_cell_says_where_it_comes_from(built, name):
    table = getattr(built, name)
    free = {"model_id", "device_id", "aliases", "soc_group", "device_name", "note", "conflict", "provenance",
            "input_shape", "task_type"}
    for row in table.to_dict("records"):
        origins = dict(part.split("=", 1) for part in row["provenance"].split(";") if part)
        filled = {column for column, value in row.items() if value} - free
        assert filled == set(origins), (row[table.columns[0]], filled ^ set(origins))
        assert all(o.startswith(KINDS) and o.partition(":")[2] for o in origins.values()), row["provenance"]


def test_hand_kept_tables_name_what_exists(built):
    devices, groups = set(built.devices["device_id"]), set(built.devices["soc_group"])
    cells = registry.read(OVERRIDES / "device_cells.csv")
    assert set(cells["device_id"]) <= devices and set(cells["column"]) <= set(built.devices)
    assert not cells.duplicated(["device_id", "column"]).any()
    assert set(cells["kind"]) <= {*KINDS, "unknown"}
    assert set(registry.read(OVERRIDES / "boards.csv")["device_id"]) <= devices
    assert set(registry.read(OVERRIDES / "socs.csv")["soc_group"]) <= groups
    assert set(registry.read(OVERRIDES / "device_aliases.csv")["device_id"]) <= devices
    models = set(built.models["model_id"])
    for table in ("figures", "model_notes"):
        assert set(registry.read(OVERRIDES / f"{table}.csv")["model_id"]) <= models, table
    cores = registry.read(OVERRIDES / "cores.csv")
    used = {c for text in built.devices["clusters"] for c in re.findall(r"\d+x([a-z0-9.+-]+)", text)}
    assert used <= set(cores["core"]), sorted(used - set(cores["core"]))


# ---- documents

def test_every_document_that_is_named_was_read_and_is_used(built):
    documents = registry.read(OVERRIDES / "documents.csv")
    named = {part for text in built.devices["provenance"] for origin in text.split(";")
             for part in (origin.partition("=data sheet:")[2].split("|")) if part}
    assert documents["document"].is_unique and named == set(documents["document"])
    address = r"https?://\S+|[\w.-]+/[\w.-]+ [\w./+-]+"
    assert documents["address"].str.fullmatch(address).all() and (documents["read"] != "").all()


def test_every_cell_read_in_a_document_tells_of_a_device(built):
    for cell in registry.read(OVERRIDES / "document_cells.csv").itertuples():
        table = built.devices
        first = table["clusters"].str.extract(r"^\d+x([^@ ]+)", expand=False)
        table = table[(table["device_id"] == cell.subject) | (table["soc_group"] == cell.subject)
                      | (first == cell.subject)]
        assert len(table), f"{cell.subject} is no device, chip or first core"
        told = table["provenance"].str.contains(f"(?:^|;){cell.column}=data sheet:")
        assert told.any(), f"{cell.subject} {cell.column} backs no cell"


def test_memory_that_a_document_contradicts_is_refused(tmp_path):
    shutil.copytree(OVERRIDES, tmp_path / "overrides")
    table = tmp_path / "overrides" / "document_cells.csv"
    text = table.read_text(encoding="utf-8")
    table.write_text(text.replace("bcm2711,l2_kib,1024,", "bcm2711,l2_kib,2048,"), encoding="utf-8")
    with pytest.raises(ValueError, match="bcm2711 l2_kib: '2048' in linux .*, but '1024' was typed"):
        build.build(overrides=tmp_path / "overrides")
    table.write_text(text + "bcm2711,process_nm,28,hearsay\n", encoding="utf-8")
    with pytest.raises(ValueError, match="bcm2711 process_nm: no document 'hearsay'"):
        build.build(overrides=tmp_path / "overrides")


def test_kryo_385_has_half_precision_but_no_dot_product(built):
    row = rows(built.devices, device_id="xiaomi_mi_8").iloc[0]
    assert row["dotprod"] == "0" and row["simd"] == "neon+fp16"
    assert "dotprod=data sheet:cpuinfo" in row["provenance"]


# ---- tasks

def test_class_names_fit_their_number(built):
    for row in built.tasks.itertuples():
        names = row.class_names.split("|") if row.class_names else []
        assert len(names) - len(set(names)) <= 2, row.task  # ImageNet has two cranes and two maillots
        assert not names or not row.n_classes or len(names) == int(row.n_classes), row.task


def test_every_task_can_be_described(built):
    assert (built.tasks["description"] != "").all()
    assert built.tasks["task"].is_unique and (built.tasks["parent"] != "").all()


@pytest.mark.parametrize(("parent", "sets"), [
    ("coco", ["coco", "coco_person", "visual_wake_words", "coco_wholebody", "coco2017_cat", "cocoseg21"]),
    ("imagenet", ["imagenet", "imagenet_v2", "imagenet_a", "stanford_dogs", "stl10"]),
    ("cifar", ["cifar10", "cifar100"]), ("speech_commands", ["speech_commands", "speech_commands_v2"]),
    ("flowers", ["flowers"]), ("flowers102", ["flowers102"]), ("oxford_pets", ["oxford_pets"]),
    ("voc", ["voc", "voc2012"]),
])
def test_data_sets_with_shared_images_share_a_parent(built, parent, sets):
    parents = built.tasks.set_index("dataset")["parent"]
    for name in sets:
        assert set(parents[[name]]) == {parent}
    own = set(built.tasks[built.tasks["parent"] == parent]["dataset"])
    assert len(sets) > 1 or own == set(sets)


def test_one_task_under_two_names_is_one_row(names):
    for alias, task in (("depth_estimation/nyu_depth_v2", "depth_estimation/nyuv2"),
                        ("visual_wake_words/vww_coco2014", "visual_wake_words/visual_wake_words"),
                        ("semantic_segmentation/oxford_iiit_pet", "semantic_segmentation/oxford_pets"),
                        ("object_detection/", "object_detection/unstated")):
        assert names["task"][alias] == task


def test_metrics_rank_the_main_tasks(built):
    metric = built.tasks.set_index("task")["metric"]
    assert metric["image_classification/imagenet"] == "top1" and metric["object_detection/coco"] == "map50_95"
    assert metric["anomaly_detection/toyadmos"] == "auc"
    assert metric["semantic_segmentation/cityscapes"] == "miou"


@pytest.mark.parametrize(("pretraining", "parent"), [
    ("moco_v2_imagenet", "imagenet"), ("imagenet21k", "imagenet"), ("stanford_dogs", "imagenet"),
    ("mask-rcnn_fpn_lvis_144219072", "coco"), ("faster-rcnn_c4_voc_142202221", "voc"), ("laion2b", "laion"),
    ("cifar10", "cifar"), ("eurosat", "eurosat"), ("webli", "webli"),
])
def test_what_a_pretraining_saw(pretraining, parent):
    assert build.pretraining_parent(pretraining) == parent
