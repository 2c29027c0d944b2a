"""torchgeo_aom: the Any-Optical-Model as a TorchGeo backbone."""

__version__ = '0.1.0.dev0'
