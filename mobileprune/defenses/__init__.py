"""Defences against membership inference that plug into the training loop as hooks."""
