"""What `hornet-data` asks of detection."""
