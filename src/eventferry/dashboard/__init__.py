"""`eventferry dashboard`: what flows where, what lags, what failed and why; a click mends it.

    browser ──> guard ──> access ──> page ──> desk ──> status, history, browse ──> stores
      ▲          Host,     who is     HTML,    one look for all
      │          CSP,      asking     or JSON  viewers
      │          CSRF                 at /api
      └── live: "something has changed" (server-sent events): the page is fetched again, and changed
          where it differs

Reads through the same functions as the command line. Changes nothing by itself: a button runs the
command line that stands beside it (`action`), in a process of its own and under the user's name, so
that there is one way to do a thing, and it always runs the newest code of the service's handlers.
"""
