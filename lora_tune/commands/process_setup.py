"""The process of a verb, prepared before torch and transformers are imported."""

import signal


def prepare_process() -> None:
    """Handle SIGTERM as Ctrl-C, keep freed memory, and silence libraries; imports some of them."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    from lora_tune.system.environment import keep_freed_memory, quiet_libraries

    keep_freed_memory()
    quiet_libraries()
