"""One piece of paid work, whatever is asked for: done once, kept, booked."""
