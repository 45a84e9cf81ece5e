"""Measures with their uncertainty, and the rules that decide on them."""
