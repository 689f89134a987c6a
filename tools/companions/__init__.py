"""Small services that speak the public APIs of identity, image and network, for a cloud on one machine.

`identity.make_identity`, `image.make_image` and `network.make_network` give a Companion: `start(port)`, `drain()`.
"""
