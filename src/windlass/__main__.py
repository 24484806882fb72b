"""`python -m windlass`."""

import sys

from windlass.cli.main import main

sys.exit(main())
