"""Calls to services outside: guarded HTTP to addresses that users gave us."""
