"""Chooses the node for a component; pure, and able to say why (platform document §4.6.7)."""
