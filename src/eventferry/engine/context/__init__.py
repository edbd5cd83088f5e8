"""What a handler is given beside the event: `_async`, and, generated from it, `_sync`."""
