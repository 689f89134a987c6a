"""What operators see of hosts: hypervisors, services, aggregates, availability zones."""
