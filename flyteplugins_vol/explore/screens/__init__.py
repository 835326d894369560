"""The screens: browsing, and what opens on top of it."""
