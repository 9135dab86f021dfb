"""Verified fakes and helpers for tests, ours and those of people who build on the platform."""
