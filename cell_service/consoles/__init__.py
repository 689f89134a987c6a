"""Consoles: which kinds hosts offer, and the proxy through which users open them."""
