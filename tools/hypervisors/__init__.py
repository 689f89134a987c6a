"""Private hypervisors: several compute hosts on one machine, each a libvirtd in namespaces of its own."""
