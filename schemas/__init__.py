"""Contracts: the shape and meaning of every table, layout and policy."""
