"""The configurable filters, under nova's names. Pure: a host's state and a request in, a reason or None out."""
