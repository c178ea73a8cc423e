"""The response models of the API, and their construction from the results of queries. Pure."""
