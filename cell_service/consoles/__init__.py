"""Consoles: what hosts offer of them, and the proxy through which users open them."""
