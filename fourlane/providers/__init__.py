"""Services outside, and how well each is: AI, payments, carriers of messages, HTTP to addresses that users gave us."""
