"""AI calls against a stand-in on this machine."""
