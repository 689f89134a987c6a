"""The transport of one machine: a broker on a Unix socket."""
