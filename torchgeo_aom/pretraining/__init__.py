"""Pretraining without repeated work: packed images, teachers' maps on disk, short sequences."""
