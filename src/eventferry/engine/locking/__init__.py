"""Checkpoints in a batch's transaction: `_async`, and, generated from it, `_sync`."""
