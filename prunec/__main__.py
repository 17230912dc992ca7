"""``python -m prunec``."""

from __future__ import annotations

import sys

from prunec.tools.cli import main

sys.exit(main())
