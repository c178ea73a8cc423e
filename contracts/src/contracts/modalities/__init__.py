"""The modalities: one module for each, with its input and its properties as data. No other code of Segue depends on
the name of a modality. Another distribution can add one by an entry point of the group `segue.modalities` that refers
to its spec."""
