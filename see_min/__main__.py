"""`python -m see_min`: see `see_min.experiments.cli`."""

import sys

from see_min.experiments.cli import main

if __name__ == "__main__":
    sys.exit(main())
