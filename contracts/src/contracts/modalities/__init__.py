"""The modalities: what can be asked for. One module for each, with its input and what Segue has to know of it as data;
nothing else in Segue tells one from another by its name. Another distribution may bring one more, by an entry point of
the group `segue.modalities` that leads to its spec."""
