"""The configurable filters, under nova's names. Pure: a host's state and a wish in, a reason or None out."""
