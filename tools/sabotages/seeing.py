"""When it is looked at: who may, from where, what is hidden, what is told of traces and times."""

from __future__ import annotations

from tools.sabotages import ENGINE, TESTS, sabotage

DASHBOARD = "src/eventferry/dashboard"
TRACING = "src/eventferry/tracing.py"
ACCESS = "tests/dashboard/test_access.py"
SHOWN = "tests/unit/test_dashboard_show.py"
TRACES = f"{TESTS}/test_traces.py"

SABOTAGES = (
    sabotage(
        "a dashboard that answers under any name",
        f"{ACCESS}::test_it_answers_under_its_own_name_alone",
        (f"{DASHBOARD}/guard.py", "if names is not None and path", "if False and path"),
    ),
    sabotage(
        "a change that another site asks for",
        f"{ACCESS}::test_no_other_site_changes_anything",
        (
            f"{DASHBOARD}/guard.py",
            "if (sender := _stranger(headers, settings)) is not None:",
            "if (sender := None) is not None:",
        ),
    ),
    sabotage(
        "a form of another session",
        f"{ACCESS}::test_a_form_of_another_session_is_refused",
        (f"{DASHBOARD}/access.py", "return bool(expected) and hmac", "return True or hmac"),
    ),
    sabotage(
        "a dashboard for everybody in the network",
        f"{ACCESS}::test_beyond_this_machine_it_starts_only_with_a_login",
        (f"{DASHBOARD}/settings.py", "if settings.is_loopback or not", "if True or not"),
    ),
    sabotage(
        "read-only that writes",
        f"{ACCESS}::test_read_only_changes_nothing",
        (f"{DASHBOARD}/action.py", "if desk.settings.read_only:", "if False:"),
    ),
    sabotage(
        "a login that leads elsewhere",
        f"{ACCESS}::test_nobody_is_sent_to_another_site",
        (f"{DASHBOARD}/guard.py", 'not path.startswith("//")', "True"),
    ),
    sabotage(
        "a session that outlives its logout",
        f"{ACCESS}::test_a_session_ends_with_the_logout",
        (f"{DASHBOARD}/access.py", 'self._ended.add(session["form"])', "pass"),
    ),
    sabotage(
        "redaction of the outermost keys alone",
        f"{SHOWN}::test_what_is_at_a_path_is_hidden",
        (
            f"{DASHBOARD}/redaction.py",
            "_without(inner, below) if all(below)",
            "inner if all(below)",
        ),
    ),
    sabotage(
        "a handler's span that is linked to nothing",
        f"{TRACES}::test_links_chain_an_event_up_through_both_stores",
        (TRACING, "links=_links(_decoded(event.metadata_json for event in events))", "links=[]"),
    ),
    sabotage(
        "the user's trace overwritten",
        f"{TRACES}::test_a_trace_that_the_user_gives_stays_and_is_linked",
        ("src/eventferry/store/_row.py", "{**added, **own}", "{**own, **added}"),
    ),
    sabotage(
        "a cause that outlives its handler",
        f"{TESTS}/test_causation.py::test_nothing_is_named_outside_of_a_handler",
        (ENGINE, "tracing.handled.set(around)", "pass"),
    ),
)
