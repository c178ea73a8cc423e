"""All of Segue on one machine: its settings, its folder, its processes, and the topics on the broker."""
