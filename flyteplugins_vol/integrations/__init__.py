"""Adapters that make volumes part of other systems. Nothing below imports them: they are found by entry points."""
