"""The command line without the reload check, whose process takes seconds.

python -m tests.train_unchecked train RECIPE ...
"""

import sys

import lora_tune.run
from lora_tune.artifacts.reload_check import ReloadCheck
from lora_tune.cli import main

if __name__ == "__main__":
    lora_tune.run.check_reload = lambda *_: ReloadCheck(0, 0.0)
    sys.exit(main(sys.argv[1:]))
