"""`python -m lora_tune`, the same as `lora-tune`."""

import sys

from lora_tune.cli import main

sys.exit(main())
