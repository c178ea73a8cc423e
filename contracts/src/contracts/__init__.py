"""What Segue says: events, commands, the topic map, failure kinds, the catalogue."""
