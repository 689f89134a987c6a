"""`polycell up`, `down` and `status`: a whole cloud on one machine."""
