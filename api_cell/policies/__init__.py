"""Default policies: Nova's and Placement's rule names and checks, as compact tables."""
