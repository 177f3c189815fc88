"""One way to be told of what this process does.

    tell.ended(run, outcome, error)           # a part tells of it

    class Mine(Observer):                     # whoever wants to know overrides what it wants to hear of
        def ended(self, run, outcome, error): ...

    tell.add(Mine())

- `tell` passes on to the observers that were added: metrics, traces, error reports and log lines are some (observe/),
  a program's own are others.
- What nobody overrides is a method that does nothing: no list is walked. What each job would pay for, even so, is not
  called unless its name is in `tell.heard`.
- An observer hears in the thread or coroutine that does the work, sees its context, and has it wait: be quick.
- What an observer raises is logged, once a minute for each of its methods, and goes no further.
- `sending` and `span` are entered around what they tell of, one inside the other, as the observers were added.
- A forked child has its parent's observers. What only the parent is to do, such as to write figures, hangs on what
  only the parent tells (`resting`, `closing`).
"""

from __future__ import annotations

from fourlane.telling.observer import Ends, Observer, Span
from fourlane.telling.passing import Telling, tell

__all__ = ["Ends", "Observer", "Span", "Telling", "tell"]
