"""Samples as functions of (seed, epoch, index): pairs, masks, sequences, batches."""
