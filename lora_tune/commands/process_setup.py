"""The process of a verb, prepared before torch and transformers are imported."""

import signal


def prepare_process() -> None:
    """Handle SIGTERM as Ctrl-C, set threads and memory, and silence libraries; imports some."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    from lora_tune.system.environment import keep_freed_memory, quiet_libraries
    from lora_tune.system.threads import set_threads

    keep_freed_memory()
    set_threads()
    quiet_libraries()
