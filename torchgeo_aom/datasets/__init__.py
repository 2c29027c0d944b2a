"""Labelled data sets in TorchGeo's form, whose channels have names."""
