"""Fourlane's speed, beside its peers and alone. See README.md."""
