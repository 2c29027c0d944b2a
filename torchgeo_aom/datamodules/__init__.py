"""Data modules in TorchGeo's form, which normalize by the bands of their data sets."""
