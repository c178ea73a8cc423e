"""What is done to aiokafka's producer, and with it."""
