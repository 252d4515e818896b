"""The process that lora_tune sets up before torch is imported."""

import os
import subprocess
import sys


def test_torch_asks_for_large_pages_unless_the_user_says_otherwise():
    code = "from lora_tune.system.environment import keep_freed_memory as keep; keep(); import os; "
    code += "print(os.environ['THP_MEM_ALLOC_ENABLE'])"
    for own, expected in ({}, "1"), ({"THP_MEM_ALLOC_ENABLE": "0"}, "0"):
        clean = {k: v for k, v in os.environ.items() if k != "THP_MEM_ALLOC_ENABLE"}
        found = subprocess.check_output([sys.executable, "-c", code], env=clean | own, text=True)
        assert found.strip() == expected
