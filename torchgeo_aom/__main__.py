"""``python -m torchgeo_aom`` is the command ``torchgeo-aom``."""

import sys

from torchgeo_aom.cli import main

if __name__ == '__main__':
    sys.exit(main())
