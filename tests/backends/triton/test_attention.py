from __future__ import annotations

from collections.abc import Callable

import pytest

from fettle.backends.host.executor import TrialResult

Prove = Callable[..., TrialResult]


@pytest.mark.parametrize("act", ["f16", "bf16"])
@pytest.mark.parametrize("causal", ["true", "false"])
@pytest.mark.parametrize("queries", ["shared", "registers"])
@pytest.mark.parametrize("kv", [70, 96])
def test_prefill_is_right_with_grouped_heads(prove: Prove, act: str, causal: str, queries: str, kv: int) -> None:
    text = f"attention heads=4 kv_heads=2 q=20 kv={kv} dim=32 act={act} causal={causal}"
    assert prove(text, block_m=32, block_n=32, split=1, queries=queries).verified


@pytest.mark.parametrize("split", [1, 4])
def test_decode_is_right_over_parts_of_the_keys(prove: Prove, split: int) -> None:
    assert prove("attention batch=2 heads=8 kv_heads=2 q=1 kv=260 dim=40 act=f16", split=split, block_n=64).verified


def test_parts_without_a_visible_key_count_nothing(prove: Prove) -> None:
    text = "attention heads=1 q=130 kv=130 dim=16 act=f16 causal=true"
    assert prove(text, split=2, block_m=64, block_n=64).verified


@pytest.mark.parametrize("cache", ["u8:32/f32", "u4:32/f32", "u2:32/f32"])
@pytest.mark.parametrize("act", ["f16", "bf16"])
def test_quantised_caches_are_read_as_what_they_stand_for(prove: Prove, cache: str, act: str) -> None:
    assert prove(f"attention heads=2 q=3 kv=130 dim=64 act={act} kvcache={cache}").verified


@pytest.mark.parametrize("pattern", ["ashape:16:1:2", "slash:16:3", "block:16:3"])
@pytest.mark.parametrize("causal", ["true", "false"])
def test_only_blocks_of_a_pattern_count(prove: Prove, pattern: str, causal: str) -> None:
    text = f"attention heads=2 kv_heads=1 q=60 kv=100 dim=16 act=f16 causal={causal} pattern={pattern}"
    assert prove(text, block_m=64, block_n=32, split=1).verified


@pytest.mark.parametrize(("pattern", "split"), [("block:24:7", 1), ("slash:80:2", 2), ("ashape:24:3:1", 2)])
def test_blocks_of_a_pattern_are_walked_in_steps_and_parts(prove: Prove, pattern: str, split: int) -> None:
    """Blocks shorter and longer than a step's 32 keys; blocks both scattered and the queries' own count once."""
    text = f"attention heads=1 q=40 kv=150 dim=16 act=f16 pattern={pattern}"
    assert prove(text, block_m=64, block_n=32, split=split).verified
