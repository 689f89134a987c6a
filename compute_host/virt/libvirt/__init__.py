"""Real guests, through libvirt. Nothing outside this package imports libvirt.

`domain` makes a guest's domain XML (pure), `storage` and `drive` make its files, `connection` is the one connection of
a host, `node` reads what the host is and has, `driver` puts them together.
"""
