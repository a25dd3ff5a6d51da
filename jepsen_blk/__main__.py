"""`python -m jepsen_blk`: the command line where the script is not on PATH."""

import sys

from jepsen_blk.cli import main

sys.exit(main())
