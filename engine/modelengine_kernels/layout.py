"""What the compiled code and its users must agree on, without torch."""

# Tokens in one block of a paged cache; BLOCK in attention.cpp.
BLOCK_TOKENS = 16
