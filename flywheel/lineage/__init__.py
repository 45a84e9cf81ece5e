"""What came from what: the way from a champion back to its source, and from an image to the models that learned it."""
