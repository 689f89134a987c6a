"""Real guests, through libvirt. Nothing outside this package imports libvirt.

`domain` says what a guest is in libvirt's words (pure), `storage` and `drive` make its files, `connection` is the one
connection of a host, `node` what the host is and has, `driver` puts them together.
"""
