"""The services beside us: what we ask of them (image, network, placement), and clients that ask over HTTP.

Public APIs and the service catalogue only. `glance.open_images`, `neutron.open_networks`,
`placement_http.open_placement` make clients from settings.
"""
