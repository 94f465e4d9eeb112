"""Shipped to others: the conformance kit for adapter authors."""
