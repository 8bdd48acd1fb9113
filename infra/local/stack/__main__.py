"""`python -m stack`, see `cli`."""

import sys

from stack.cli import main

sys.exit(main())
