"""Imports what the command line needs, once for all tests of a process."""

import gc

import lora_tune.run  # noqa: F401

# A run collects garbage several times: without the objects of the imported libraries, that takes
# milliseconds instead of most of a second.
gc.freeze()
