"""Engines: what computes the network, on which processor, in which precision."""
