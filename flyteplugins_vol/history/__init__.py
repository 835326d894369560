"""Versions: their records, refs, checkout and publication."""
