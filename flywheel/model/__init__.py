"""Architectures, preprocessing, training and inference: everything that decides weights and answers."""
