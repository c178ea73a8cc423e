"""Pictures of the dashboards, with the data of a Segue that runs jobs and faults."""
