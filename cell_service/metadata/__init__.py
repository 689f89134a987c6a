"""The data that a guest can read about its own server: documents, config drive, and the HTTP service that serves
them."""
