"""Work that can wait is asked in batches, at half the price.

1. A job puts its question among those that wait (``asking``) and gives its slot back: it is delayed, for as long as its
   answer may take.
2. One job a minute (``collecting``) hands what waits to the providers (``submitting``), looks at batches that are under
   way (``looking``), and writes each answer where its job finds it (``delivering``), which runs at once then.
3. The job takes the answer as any other: recorded, booked, said. What came of a job that is no more is booked and
   dropped (``orphans``).

``rules`` has when and how long, ``records`` what is kept of a request and of a batch.
"""
