"""From a source of images to a content-addressed dataset version."""
