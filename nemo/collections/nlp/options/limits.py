"""What no model comes near: a number beyond it is a slip, and would end in a crash for want of memory."""

LONGEST_SEQUENCE = 1 << 16  # tokens
LARGEST_VOCABULARY = 1 << 21  # entries
WIDEST = 1 << 20  # features
DEEPEST = 1 << 12  # layers
