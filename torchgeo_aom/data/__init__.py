"""Images without labels, from files to batches for pretraining, and samples in the package."""
