"""The routes of the API that is our own."""
