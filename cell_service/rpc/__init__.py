"""RPC over a queue: contracts declared once, and transports."""
