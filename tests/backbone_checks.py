"""Checks that every AOM backbone passes, in the manner of scikit-learn's ``check_estimator``.

A builder is a function that takes the arguments of ``AOM`` and returns a backbone of any kind.
Every check builds its own models and makes its own images: random, never zeros, no two alike.
"""

from __future__ import annotations

from common import Builder
from input_checks import (
    check_any_channels,
    check_any_patch_size,
    check_any_size,
    check_bad_input,
    check_band_order,
    check_band_tokens,
    check_bands_per_sample,
    check_batch,
    check_contract,
    check_deterministic,
    check_missing_band,
    check_patch_size_of_constructor,
    check_token_budget,
)
from module_checks import (
    check_attention,
    check_checkpointing,
    check_default_dtype,
    check_dtypes,
    check_gradient_of_padding,
    check_gradients,
    check_head,
    check_intermediates,
    check_memory_layout,
    check_meta,
    check_meta_materialized,
    check_modes,
    check_state,
)

CHECKS = (
    check_contract,
    check_any_channels,
    check_any_size,
    check_any_patch_size,
    check_patch_size_of_constructor,
    check_deterministic,
    check_batch,
    check_band_order,
    check_missing_band,
    check_bands_per_sample,
    check_band_tokens,
    check_gradients,
    check_gradient_of_padding,
    check_checkpointing,
    check_attention,
    check_intermediates,
    check_head,
    check_state,
    check_dtypes,
    check_default_dtype,
    check_meta,
    check_meta_materialized,
    check_memory_layout,
    check_modes,
    check_bad_input,
    check_token_budget,
)


def check_backbone(builder: Builder) -> None:
    """Run every check over the models that a builder makes."""
    for check in CHECKS:
        check(builder)
