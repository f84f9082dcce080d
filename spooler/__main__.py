"""`python -m spooler`."""

import sys

from spooler.cli import main

if __name__ == "__main__":
    sys.exit(main())
