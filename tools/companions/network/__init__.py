"""The network companion: Network v2.0, with the wiring of hosts."""
