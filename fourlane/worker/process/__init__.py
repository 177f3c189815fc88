"""A worker's processes: started, beaten for, looked after and ended by one supervisor."""
