"""What screens are made of. A widget shows values and says what a person did; it asks only what it pages through."""
