"""`python -m paas.cli`: the `paas` command without an installed script."""

import sys

from paas.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
