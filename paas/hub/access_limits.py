"""Bounds of access from outside and how they relate."""

ACCESS_TOKEN_LIFE_S = 30 * 86_400.0
"""Default life of an access token."""

ACCESS_TOKEN_LIFE_S_MAX = 366 * 86_400

ACCESS_TOKENS_MAX = 1_000
"""Access tokens in the cluster state; the next one is refused with `limit-exceeded`."""

ACCESS_TOKEN_NOTE_CHARACTERS_MAX = 200

assert ACCESS_TOKEN_LIFE_S <= ACCESS_TOKEN_LIFE_S_MAX
