"""What is deleted once it is old enough: rows, months of the log, and the files of artifacts."""
