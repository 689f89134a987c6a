"""What a server is told about itself: documents, config drive, and the HTTP service that guests ask."""
