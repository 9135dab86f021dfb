"""The ports on a real machine.  Imported by entry points only; each file implements one port."""
