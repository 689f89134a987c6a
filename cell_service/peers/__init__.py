"""The services that compute uses (image, network, volumes, shares, placement): protocols, and clients over HTTP.

Public APIs and the service catalogue only. `glance.open_images`, `neutron.open_networks`,
`placement_http.open_placement` make clients from settings.
"""
