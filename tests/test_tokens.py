"""Tokens: half a data sheet still has a representation, an unknown word changes nothing, order does not matter."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from lib.benchmark import platform_specs
from lib.tokens import (HARDWARE_NUMBERS, MAX_PROTOTYPES, PTM_NUMBERS, HardwareTokens, PtmTokens, TaskTokens, Vocabulary, encode,
                        hardware_numbers, hardware_words, image_area, priorities_vector, ptm_numbers, thin)
from tests.helpers_queries import grid, make_query


def test_missing_fields_are_absent_not_zero() -> None:
    numbers = hardware_numbers({"clock_mhz": 480.0, "ram_mib": 0.0, "npu": "none", "year": 2020.0})
    assert numbers == {"clock_mhz": np.log10(480.0), "year": 1.0}
    assert hardware_words({"clock_mhz": 480.0}) == []


def test_lists_of_words_become_one_word_each() -> None:
    words = hardware_words({"simd": "neon+fp16+dotprod", "core_type": "cortex-a76 + cortex-a55", "gpu": "mali-g610 mc4", "dotprod": 1.0})
    assert words == ["core_type=cortex-a76", "core_type=cortex-a55", "simd=neon", "simd=fp16", "simd=dotprod", "gpu=mali", "dotprod=1"]


def test_platform_specs_keep_only_what_is_stated() -> None:
    specs = platform_specs({"cores": 4, "clock_mhz": 1500, "isa": "ARMv8-A", "ram_mib": np.nan, "gpu": None, "soc": "x"}, "cpu", "ncnn", 2, clock_mhz=600)
    assert specs == {"cores": 4.0, "clock_mhz": 600.0, "isa": "armv8-a", "processor": "cpu", "runtime": "ncnn", "threads": 2.0}


def test_input_shapes_are_read() -> None:
    assert image_area("224x192x3") == 224 * 192
    assert image_area("640") == 640
    assert np.isnan(image_area(None))


def test_padding_and_masks() -> None:
    queries = [make_query(n=5), make_query(n=8), replace(make_query(n=6), specs={}, prototypes={})]
    batch = encode(queries, Vocabulary.of(queries[:2]))
    assert batch.numbers.shape == (3, 8, len(PTM_NUMBERS))
    assert batch.candidates.sum(1).tolist() == [5, 8, 6]
    assert batch.names_mask.sum(1).tolist() == [5, 5, 0]
    assert not batch.images_mask.any()
    assert batch.specs.shape == (3, len(HARDWARE_NUMBERS))
    assert batch.specs[2].isnan().all() and (batch.hardware[2] == 0).all()


def test_a_bare_board_has_no_hardware_token_and_still_a_score() -> None:
    queries = [replace(make_query(), specs={})]
    vocabulary = Vocabulary.of(grid(2, 1))
    tokens, mask = HardwareTokens(vocabulary, 16).eval()(encode(queries, vocabulary))
    assert not mask.any() and torch.isfinite(tokens).all()


def test_unknown_words_share_the_zero_embedding() -> None:
    vocabulary = Vocabulary.of(grid(2, 1))
    stranger = make_query(seed=5)
    batch = encode([stranger], vocabulary)
    assert (batch.words[..., 0] == 0).all()
    assert (batch.words[..., 2] > 0).all()  # its families are known
    module = PtmTokens(vocabulary, 16).eval()
    assert torch.isfinite(module(batch)).all()


def test_a_candidate_without_words_or_shape_is_unknown_not_wrong() -> None:
    vocabulary, query = Vocabulary.of(grid(2, 1)), make_query()
    query = replace(query, candidates=query.candidates.astype({"family": "category"}).assign(
        training=np.nan, model_id=range(len(query)), input_shape=["96x96x3", None] + [np.nan] * (len(query) - 2)))
    batch = encode([query], vocabulary)
    assert (batch.words[..., [0, 5]] == 0).all() and (batch.words[..., 2] > 0).all()
    assert ptm_numbers(query)[:, 4][0] == np.log10(96 * 96) and np.isnan(ptm_numbers(query)[1:, 4]).all()


def test_learned_parts_are_hidden_only_in_training() -> None:
    vocabulary = Vocabulary.of(grid(2, 1))
    batch, module = encode(grid(2, 1), vocabulary), PtmTokens(vocabulary, 16, hide=0.9)
    torch.manual_seed(0)
    assert not torch.equal(module.train()(batch), module(batch))
    assert torch.equal(module.eval()(batch), module(batch))


def test_traits_can_be_switched_off() -> None:
    vocabulary = Vocabulary.of(grid(2, 1))
    bare = PtmTokens(vocabulary, 16, traits=False).eval()
    assert (bare(encode([make_query(seed=5)], vocabulary))[..., 0] == bare(encode([make_query(seed=5)], vocabulary))[0, 0, 0]).all()


def test_vocabulary_survives_json_and_ignores_order() -> None:
    one, two = Vocabulary.of(grid(3, 2)), Vocabulary.of(grid(3, 2)[::-1])
    assert one.words == two.words
    again = Vocabulary.from_dict(one.to_dict())
    assert again.index == one.index and np.array_equal(again.scale, one.scale)


def test_numbers_are_on_a_log_scale() -> None:
    query = make_query()
    assert np.allclose(ptm_numbers(query)[:, 0], np.log10(query.candidates["params_m"]))
    query.candidates["macs_m"] = 0.0
    assert np.isnan(ptm_numbers(query)[:, 1]).all()


def test_thinning_keeps_first_and_last() -> None:
    many = np.arange(1000)[:, None] * np.ones((1, 4))
    few = thin(many)
    assert len(few) == MAX_PROTOTYPES and few[0, 0] == 0 and few[-1, 0] == 999
    assert thin(many[:10]) is not None and len(thin(many[:10])) == 10


def test_only_ratios_of_priorities_matter() -> None:
    assert np.array_equal(priorities_vector({"accuracy": 2, "latency": 4}), priorities_vector({"accuracy": 1, "latency": 2}))
    assert priorities_vector({"accuracy": 1}).sum() == 1


def test_task_tokens_use_both_extractors() -> None:
    query = make_query()
    both = replace(query, prototypes={**query.prototypes, "images": np.ones((3, 1280), np.float32)})
    vocabulary = Vocabulary.of([query])
    tokens, mask = TaskTokens(8)(encode([both, query], vocabulary))
    assert tokens.shape == (2, 8, 8) and mask.sum(1).tolist() == [8, 5]
