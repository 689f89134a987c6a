"""The operator's commands: `polycell-manage`, with nova-manage's names and exit codes, and `polycell-status`."""
