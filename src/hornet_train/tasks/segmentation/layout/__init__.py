"""What `hornet-data` asks of segmentation."""
