"""``python -m tutelage`` is the command ``tutelage``."""

import sys

from tutelage.cli import main

sys.exit(main())
