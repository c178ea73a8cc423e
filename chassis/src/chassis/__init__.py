"""How every Segue service lives: lifecycle, broker, delivery, database, telemetry."""
