"""Servers, their actions and all that hangs on them."""
