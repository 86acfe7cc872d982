"""Faults on purpose: a real cluster under load, one fault after the other, and the history checked at the end."""
