"""The settings of each part, a file each: its variables, what each may be, how it is shown, what its fault says."""
