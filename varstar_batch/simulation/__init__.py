"""Simulated light curves of the six classes, and surveys of them."""
