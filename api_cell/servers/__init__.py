"""What happens to servers, apart from how it is said on the wire: create, find, list, act, delete."""
