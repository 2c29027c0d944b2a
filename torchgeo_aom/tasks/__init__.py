"""Lightning tasks: TorchGeo's own, with bands."""
