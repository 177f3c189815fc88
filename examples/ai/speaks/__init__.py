"""The protocols of the stand-in, one module each, as their providers document them.

Each has ``read`` (what is asked), ``refused`` (a parameter that the model does not take), ``say`` (the events of an
answer), ``error`` (the body of a refusal) and ``broken`` (the event of an error amid an answer).
"""
