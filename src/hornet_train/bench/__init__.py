"""What is measured of this program, side by side with what it is measured against."""
