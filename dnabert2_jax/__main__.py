"""`python -m dnabert2_jax`, the same as `dnabert2`."""

import sys

from dnabert2_jax.cli.main import main

sys.exit(main())
