"""Texts of any length, in parts."""
