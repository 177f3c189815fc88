"""Notifications of all channels, into a mailbox and a stand-in on this machine."""
