"""The providers: who makes what is asked for. One module for each, with what Segue has to know of it as data. Apart
from its adapter, no service of Segue tells one from another by its name. Another distribution may bring one more, by an
entry point of the group `segue.providers` that leads to its spec."""
