"""Class prototypes: the mean itself, tasks from images and names, and the shipped vectors."""
import os
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data.build import tokens
from lib import paths, prototypes

TOKENS = prototypes.load_tokens()


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


# ------------------------------------------------------------------------------ class_prototypes
def test_prototype_is_the_normalised_class_mean():
    features = np.array([[1.0, 0], [3, 0], [0, 5], [0, 7], [2, 2]])
    got = prototypes.class_prototypes(features, np.array(["b", "b", "a", "a", "c"]))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, [[0, 1], [1, 0], [2**-0.5, 2**-0.5]], atol=1e-7)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 6))
def test_prototypes_ignore_row_order_label_gaps_and_scale(seed, n_classes):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, 20)])
    features = rng.normal(size=(len(labels), 5)) + 0.1
    order = rng.permutation(len(labels))
    got = prototypes.class_prototypes(features, labels)
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, rtol=1e-6)
    again = prototypes.class_prototypes(7 * features[order], 10 * labels[order] + 3)
    np.testing.assert_allclose(again, got, atol=1e-6)


@pytest.mark.parametrize("features, labels, words", [
    (np.ones((3, 2)), [0, 1], r"\(3, 2\) and \(2,\)"),
    (np.ones(3), [0, 1, 1], "features must be"),
    (np.zeros((0, 2)), [], "features must be"),
    ([[1, 2], [np.nan, 1]], [0, 1], "row 1 holds a value that is not finite"),
    (np.ones((2, 2)), [4, 4], "at least 2 classes, got 1"),
    ([[1, 0], [-1, 0], [0, 1]], [5, 5, 6], "class 5: its mean feature is zero"),
])
def test_bad_features_are_refused(features, labels, words):
    with pytest.raises(ValueError, match=words) as error:
        prototypes.class_prototypes(features, labels)
    assert "\n" not in str(error.value)


# ------------------------------------------------------------------------------ from names
def test_names_are_read_as_words():
    assert prototypes.clean("HerbaceousVegetation") == "herbaceous vegetation"
    assert prototypes.clean(" Egyptian__Mau ") == "egyptian mau"
    assert prototypes.prompt("apple_pie") == "a photo of an apple pie"
    assert prototypes.prompt("banded", "image_classification", "textures") == "a photo of a banded texture"
    assert prototypes.prompt("go", "keyword_spotting/speech_commands") == "the spoken word go"
    assert prototypes.prompt("7", "image_classification/svhn", "house numbers") == \
        "a photo of the number 7, house numbers"


@pytest.mark.parametrize("names, words", [
    ([], "at least 2 classes, got 0"), (["cat"], "at least 2 classes, got 1: cat"),
    (["cat", " "], "empty or given twice"), (["cat", "dog", "Cat"], "empty or given twice"),
])
def test_bad_names_are_refused(names, words):
    with pytest.raises(ValueError, match=words):
        prototypes.from_names(names, tokens=TOKENS)


def test_known_names_need_no_encoder(monkeypatch):
    monkeypatch.setattr(prototypes, "_encoder", lambda: pytest.fail("a known name was encoded"))
    got = prototypes.from_names(["Siamese cat", "truck", "tabby"], tokens=TOKENS)
    assert got.shape == (3, 384) and got.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, rtol=1e-6)
    assert got[2] @ got[0] > got[2] @ got[1] + 0.2  # a tabby is nearer to a siamese cat than to a truck


def test_a_name_means_what_the_task_makes_of_it():
    spoken, seen = (TOKENS.vectors[TOKENS.texts[text]] for text in ("the sound of dog", "a photo of a dog"))
    np.testing.assert_array_equal(TOKENS.lookup("dog", "the sound of dog"), spoken / np.linalg.norm(spoken))
    np.testing.assert_array_equal(TOKENS.lookup("dog", "a photo of a dog"), seen / np.linalg.norm(seen))
    cat = TOKENS.lookup("egyptian cat", "a photo of an egyptian cat")
    assert cosine(TOKENS.lookup("tiger cat", "a photo of a tiger cat"), cat) > 0.5
    both = TOKENS.lookup("dog", "a drawing of a dog")  # no such kind: the mean over those that are shipped
    assert cosine(both, spoken) > 0.7 and cosine(both, seen) > 0.7
    assert TOKENS.lookup("flux capacitor", "a photo of a flux capacitor") is None


def test_without_the_encoder_an_unknown_name_says_what_to_install(monkeypatch):
    def absent():
        raise ImportError("no encoder here")
    monkeypatch.setattr(prototypes, "_encoder", absent)
    with pytest.raises(ValueError, match="flux capacitor'.*pip install .*sentence-transformers") as error:
        prototypes.from_names(["truck", "flux capacitor"], tokens=TOKENS)
    assert "\n" not in str(error.value)


def test_unknown_names_are_encoded_in_their_place(monkeypatch):
    class Encoder:
        def encode(self, texts, **_):
            assert texts == ["a photo of a flux capacitor"]
            return np.eye(384)[:1]
    monkeypatch.setattr(prototypes, "_encoder", Encoder)
    got = prototypes.from_names(["truck", "flux capacitor", "tabby"], tokens=TOKENS)
    np.testing.assert_array_equal(got[1], np.eye(384)[0])
    assert cosine(got[0], prototypes.from_names(["truck", "dog"], tokens=TOKENS)[0]) > 0.999


# ------------------------------------------------------------------------------ from images
@pytest.fixture
def coloured(tmp_path):
    """Two classes of four pictures: red with noise, and blue stripes; in several modes and formats."""
    rng = np.random.default_rng(0)
    for name in ("red", "stripes"):
        (tmp_path / name).mkdir()
        (tmp_path / name / ".hidden").write_text("not an image")
    for i, (mode, kind) in enumerate([("RGB", "png"), ("RGB", "jpg"), ("P", "png"), ("RGBA", "png")]):
        red = np.zeros((40 + i, 60, 3), np.uint8)
        red[..., 0] = 200 + rng.integers(0, 40, red.shape[:2])
        stripes = np.zeros((50, 50, 3), np.uint8)
        stripes[:, i::8, 2] = 255
        Image.fromarray(red).convert(mode).save(tmp_path / "red" / f"{i}.{kind}")
        Image.fromarray(stripes).convert(mode).save(tmp_path / "stripes" / f"{i}.{kind}")
    return tmp_path


def test_images_give_one_prototype_a_class(coloured):
    task = prototypes.from_images(coloured)
    assert task.classes == ("red", "stripes") and task.counts.tolist() == [4, 4]
    assert task.vectors.shape == (2, 1280) and task.vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(task.vectors, axis=1), 1, rtol=1e-6)
    assert (task.spread > 0).all() and (task.spread < 1 - cosine(*task.vectors)).all()
    fewer = prototypes.from_images(coloured, per_class=1)
    assert fewer.counts.tolist() == [1, 1] and np.allclose(fewer.spread, 0, atol=1e-6)
    assert cosine(fewer.vectors[0], task.vectors[0]) > cosine(fewer.vectors[0], task.vectors[1])


def test_pixels_are_scaled_as_the_network_was_trained(tmp_path):
    Image.new("RGB", (300, 400), (255, 127, 0)).save(tmp_path / "a.png")
    Image.fromarray(np.full((30, 30), 65535, np.uint16)).save(tmp_path / "deep.png")
    got = prototypes.read_image(tmp_path / "a.png")
    assert got.shape == (3, 224, 224)
    np.testing.assert_allclose(got.mean(axis=(1, 2)), [1, 0, -127 / 128])
    np.testing.assert_allclose(prototypes.read_image(tmp_path / "deep.png"), 1)


def test_bad_folders_are_refused_in_one_line(coloured):
    def refused(folder, words):
        with pytest.raises(ValueError, match=words) as error:
            prototypes.from_images(folder)
        assert "\n" not in str(error.value) and str(folder) in str(error.value)
    refused(coloured / "nowhere", "no such folder")
    refused(coloured / "red", "at least 2 classes, a sub-folder each, has 0")
    (coloured / "none").mkdir()
    refused(coloured, "class 'none' holds no image")
    (coloured / "none" / "1.png").write_bytes((coloured / "red" / "0.png").read_bytes()[:100])
    refused(coloured, "1.png: not a readable image")
    (coloured / "none" / "1.png").write_text("hello")
    refused(coloured, "1.png: not a readable image")


# ------------------------------------------------------------------------------ shipped vectors
def test_every_task_of_the_registry_has_a_vector_for_each_class():
    tasks = pd.read_csv(paths.REGISTRY / "tasks.csv", keep_default_na=False, dtype=str)
    for row in tasks.itertuples():
        names = TOKENS.get(row.task)["names"]
        classes = [name for name in row.class_names.split("|") if name]
        assert names.shape == (len(classes) or 1, 384) and names.dtype == np.float32, row.task
        np.testing.assert_allclose(np.linalg.norm(names, axis=1), 1, atol=2e-3)
        for i in (0, len(classes) - 1) if classes else ():  # rows follow the registry's order of classes
            text = prototypes.prompt(classes[i], row.task, row.domain)
            np.testing.assert_array_equal(names[i], TOKENS.vectors[TOKENS.texts[text]])
    assert TOKENS.get("image_classification/nowhere") == {}


def test_shipped_images_are_unit_vectors_with_counts():
    assert sorted(TOKENS.images) == [
        "caltech101", "cifar10", "fashion_mnist", "flowers", "grocery_store", "gtsrb", "imagenet", "mnist",
        "oxford_pets", "stanford_cars", "visual_wake_words"]
    for name, task in TOKENS.images.items():
        assert task.vectors.shape == (len(set(task.classes)), 1280) == (len(task.classes), 1280), name
        np.testing.assert_allclose(np.linalg.norm(task.vectors, axis=1), 1, atol=1e-5)
        assert (task.vectors >= 0).all() and (task.counts >= 1).all() and (task.spread < 1).all()
    assert len(TOKENS.images["imagenet"].classes) == 1000
    assert TOKENS.get("image_classification/flowers")["images"].shape == (5, 1280)
    assert "images" not in TOKENS.get("image_classification/food101")


def test_shipped_vectors_mean_something():
    def centre(task):
        return TOKENS.get(f"image_classification/{task}")["names"].mean(axis=0)
    animals = cosine(centre("oxford_pets"), centre("stanford_dogs"))
    assert animals > cosine(centre("oxford_pets"), centre("food101")) + 0.1
    assert cosine(centre("cifar10"), centre("stl10")) > cosine(centre("cifar10"), centre("dtd")) + 0.1
    pets = TOKENS.images["oxford_pets"]
    where = {name: vector for name, vector in zip(pets.classes, pets.vectors)}
    assert cosine(where["siamese"], where["birman"]) > cosine(where["siamese"], where["beagle"])


def test_shipped_files_are_small_and_hold_no_pickle():
    sizes = {path.name: path.stat().st_size for path in paths.TOKENS.glob("*.npz")}
    assert set(sizes) >= {"names.npz", "images.npz"}
    assert max(sizes.values()) < 4e6 and sum(sizes.values()) < 6e6
    for name in sizes:
        with np.load(paths.TOKENS / name, allow_pickle=False) as file:
            assert all(file[key].dtype != object for key in file)


def test_damaged_or_missing_vectors_are_named(tmp_path):
    with pytest.raises(ValueError, match="names.npz: cannot be read"):
        prototypes.load_tokens(tmp_path)
    shutil.copy(paths.TOKENS / "names.npz", tmp_path)
    (tmp_path / "images.npz").write_bytes((paths.TOKENS / "images.npz").read_bytes()[:1000])
    with pytest.raises(ValueError, match="images.npz: cannot be read"):
        prototypes.load_tokens(tmp_path)


# ------------------------------------------------------------------------------ building
def test_a_rebuild_from_the_same_registry_gives_the_same_file(tmp_path):
    tokens.write_names(tmp_path)
    assert (tmp_path / "names.npz").read_bytes() == (paths.TOKENS / "names.npz").read_bytes()


def test_image_prototypes_survive_their_8_bit_file(coloured, tmp_path_factory):
    source, out = tmp_path_factory.mktemp("sets"), tmp_path_factory.mktemp("out")
    shutil.copytree(coloured, source / "toy")
    shutil.copy(paths.TOKENS / "names.npz", out)
    tokens.write_images(source, out)
    exact, read = prototypes.from_images(coloured), prototypes.load_tokens(out).images["toy"]
    assert read.classes == exact.classes and read.counts.tolist() == exact.counts.tolist()
    assert (np.sum(exact.vectors * read.vectors, axis=1) > np.cos(np.radians(1))).all()


def test_the_command_line_names_a_wrong_folder(tmp_path):
    shutil.copytree(paths.TOKENS, tmp_path / "tokens")
    shutil.copytree(paths.REGISTRY, tmp_path / "registry")
    shutil.copy(paths.DATA / "columns.csv", tmp_path)
    command = [sys.executable, "-m", "data.build", "tokens", "--images", str(tmp_path / "nowhere")]
    before = (tmp_path / "tokens" / "images.npz").read_bytes()
    got = subprocess.run(command, capture_output=True, text=True, cwd=paths.ROOT,
                         env=os.environ | {"STUDY_DATA": str(tmp_path)})
    assert got.returncode == 2 and "nowhere" in got.stderr and len(got.stderr.splitlines()) == 1
    assert (tmp_path / "tokens" / "images.npz").read_bytes() == before
