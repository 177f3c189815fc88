"""The platform's own housekeeping: what is cleaned, what operators are told of."""
