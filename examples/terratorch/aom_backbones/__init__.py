"""What TerraTorch imports at the start (``custom_modules_path``): it registers the backbones."""

import torchgeo_aom.clients.terratorch  # noqa: F401 -- importing is what registers
