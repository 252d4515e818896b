"""The command line in a process of its own that runs many commands, one after the other.

A fresh process takes seconds to import torch. What a variable such as HF_ENDPOINT says is read at
import, so each environment has its own server; HF_TOKEN may differ from command to command.

python -m tests.command_server
"""

import contextlib
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

# Not from tests.conftest, which sets the environment of the tests.
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Done:
    """A finished command."""

    returncode: int
    stdout: str
    stderr: str


class CommandServer:
    """Runs commands in its process; a context manager."""

    def __init__(self, environment):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.command_server"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(timeout=60)

    def run(self, *words, token=None):
        """Run one command; `token` is its HF_TOKEN."""
        request = {"words": list(map(str, words)), "token": token}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return Done(**json.loads(self.process.stdout.readline()))


def serve():
    """Run a command for each line of standard input, and print what came of it."""
    from lora_tune.cli import main

    given = os.environ.get("HF_TOKEN")
    for line in sys.stdin:
        request = json.loads(line)
        token = request["token"] or given
        os.environ.pop("HF_TOKEN", None)
        if token is not None:
            os.environ["HF_TOKEN"] = token
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = main(request["words"])
            except SystemExit as error:  # of wrong options
                code = error.code
        done = {"returncode": code, "stdout": out.getvalue(), "stderr": err.getvalue()}
        sys.stdout.write(json.dumps(done) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()
