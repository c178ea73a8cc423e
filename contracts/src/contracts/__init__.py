"""The contracts between Segue's services: events, commands, the topic map, failure kinds, the catalogue."""
