"""Upper limits far beyond any real model: a larger number is a typo and would run out of memory."""

LONGEST_SEQUENCE = 1 << 16  # tokens
LARGEST_VOCABULARY = 1 << 21  # entries
WIDEST = 1 << 20  # features
DEEPEST = 1 << 12  # layers
