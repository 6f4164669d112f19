"""The numbers of the recipe, each with the record it comes from; benchmarks/records has them.

A number without a record was not measured: it is the field's usual value, or a guess.
"""

from typing import Any

MINUTES = 10.0
"""Long enough for a model to learn from context on a laptop, short enough to wait for a first result."""

SHAPES = {"tiny": (2, 128, 2), "micro": (2, 256, 4), "mini": (4, 256, 4), "small": (4, 512, 8),
          "base": (12, 768, 12), "large": (24, 1024, 16)}  # fmt: skip
"""Layers, width and heads; Turc et al. 2019, arXiv 1908.08962, and Devlin et al. 2019."""
LEAST_TOKENS = {"tiny": 0, "micro": 300_000, "mini": 6_000_000, "small": 30_000_000, "base": 200_000_000,
                "large": 3_000_000_000}  # fmt: skip
"""Tokens seen in training above which a size beats the next smaller one. mini: extrapolated from
2026-11-30_recipes; the others follow the usual rule of tokens per weight."""
LEAST_CHARACTERS = {"tiny": 0, "micro": 100_000, "mini": 1_000_000, "small": 10_000_000,
                    "base": 100_000_000, "large": 10**9}  # fmt: skip
"""Characters of text below which a model of this size memorizes it."""

# From 2026-11-22_demo_recipe: 4 x 256, 11.4 MB of English, 335 steps of 1,618 tokens.
VOCABULARY, VOCABULARY_CHARACTERS, VOCABULARY_GROWTH = 8000, 11.4e6, 0.4
"""Entries for a text of this many characters, and the exponent of their growth (Heaps' law)."""
STEP_TOKENS, STEP_TOKENS_OF_RUN = 1618, 542_233
"""Tokens of a step in a run that sees this many tokens in all."""
LEARNING_RATES = {"tiny": 1e-3, "micro": 2e-3, "mini": 1e-3, "small": 7e-4, "base": 2e-4, "large": 1e-4}
"""micro: 2026-11-30_recipes; mini: 2026-11-22_demo_recipe; base and large: Devlin et al. 2019, twice their
rate as it decays to 0 in a short run."""
MEASURED_RATES = ("micro", "mini")
"""The sizes whose rate was compared with others."""
ADAPTING_RATE = 1e-4
"""Peak learning rate if training starts from a pretrained model."""
SCHEDULE: dict[str, Any] = {"lr_policy": "PolynomialDecayAnnealing", "lr_warmup_proportion": 0.1}
OPTIMIZER: dict[str, Any] = {
    "optimizer": "adam_w",
    "beta1": 0.9,
    "beta2": 0.98,
    "weight_decay": 0.01,
    "grad_norm_clip": 1.0,
}
"""Warm-up, beta2, weight decay and clipping were compared with others: 2026-11-30_recipes_tried."""
COUNTING_TOKENS = 100e6
"""Tokens seen in training up to which counts are a head start; measured to 9 million: 2026-11-30_recipes."""
SEQUENCE_LENGTH = 128
NSP_WEIGHT = 0.1
"""The loss is that of the masked words plus this times the next-sentence loss: 2026-11-30_recipes_tried."""

# 2026-11-29_recipe
EFFICIENCY = {"cpu": 0.6, "cuda": 0.25}
"""A training step's share of the speed of plain matrix products."""
TRAINING_SHARE = 0.8
"""Share of the time for training; the rest goes to reading, tokenizing, evaluating and saving."""

HELD_OUT_SHARE, HELD_OUT_CHARACTERS = 0.1, 200_000
"""Maximum held-out text: about 7,000 masked words, which resolve losses to 0.02 nat."""
DROPOUT = 0.1
MOST_PASSES = 20
"""A run makes at most this many passes over the text; with more, it memorizes it: 2026-11-30_passes."""
FAR_FROM_MOST = 0.3
"""A run that is expected to make fewer than this share of `MOST_PASSES` gets no limit."""
FEW_PASSES = 5.0
"""Passes over the text up to which no dropout is needed: 2026-11-30_recipes_tried."""
EVALUATIONS, EVALUATION_SHARE = 10, 0.05
SAVE_MINUTES = (1.0, 15.0)
"""Bounds of the time between checkpoints, which is a tenth of the run."""
LINES = 50
UNSPACED = ("Thai", "Lao", "Khmer", "Myanmar", "Tibetan", "Hiragana", "Katakana")
"""Scripts without spaces between words: WordPiece would treat each sentence as one word."""
CHARACTERS_PER_TOKEN = {"Han": 1.0, "others": 4.0}
