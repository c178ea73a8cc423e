"""The providers: one module for each, with its properties as data. Apart from its adapter, no service of Segue depends
on the name of a provider. Another distribution can add one by an entry point of the group `segue.providers` that
refers to its spec."""
