"""Where streams and projections stand on the map."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from eventferry.dashboard.map import HEIGHT, MANY, WIDTH, Flow, Map, drawn


def flow(
    name: str,
    *streams: str,
    service: str = "users",
    environment: str = "shared",
    shared_stream: str | None = None,
    rate: float | None = 0.0,
    state: str = "idle",
) -> Flow:
    return Flow(
        service=service,
        name=name,
        kind="producing" if shared_stream else "consuming",
        environment="local" if shared_stream else environment,
        streams=streams,
        shared_stream=shared_stream,
        state=state,
        lag=0,
        behind_s=0.0,
        rate=rate,
        error=None,
        is_own=service == "users",
        is_silent=False,
    )


def columns(found: Map) -> list[list[str]]:
    """The names in each column, from above."""
    places = sorted((node.x, node.y, node.name) for node in found.nodes)
    return [[name for x, _, name in places if x == at] for at, _ in found.columns]


def test_events_flow_from_the_left_to_the_right() -> None:
    found = drawn(
        [
            flow("ferry", "users-stream", shared_stream="users-stream"),
            flow("search", "users-stream", environment="local"),
            flow("welcome", "users-stream", service="mail"),
        ],
        "users",
    )
    assert columns(found) == [["users-stream"], ["ferry", "search"], ["users-stream"], ["welcome"]]
    assert len(found.edges) == 4


def test_what_is_joined_stands_side_by_side() -> None:
    found = drawn(
        [flow(f"ferry-{n}", f"s{n}-stream", shared_stream=f"s{n}-stream") for n in (1, 2, 3)]
        + [flow(f"reader-{n}", f"s{4 - n}-stream") for n in (1, 2, 3)],
        "users",
    )
    ferries, streams, readers = columns(found)[1:]
    assert streams == [f"s{name[-1]}-stream" for name in ferries]
    assert streams == [f"s{4 - int(name[-1])}-stream" for name in readers]


def test_a_stream_of_the_same_name_in_two_local_stores_is_two() -> None:
    found = drawn(
        [
            flow("a", "jobs-stream", environment="local"),
            flow("b", "jobs-stream", environment="local", service="mail"),
        ],
        "users",
    )
    assert columns(found)[0] == ["jobs-stream", "jobs-stream"]


def test_only_what_goes_on_moves() -> None:
    moving = [
        drawn([flow("p", "s-stream", rate=rate, state=state)], "users").edges[0].is_moving
        for rate, state in ((3.0, "idle"), (0.0, "idle"), (None, "idle"), (3.0, "failed"))
    ]
    assert moving == [True, False, False, False]


def test_a_large_map_shows_what_the_service_has_to_do_with() -> None:
    ours = [flow("ferry", "users-stream", shared_stream="users-stream")]
    readers = [flow("welcome", "users-stream", service="mail")]
    others = [flow(f"p{n}", f"s{n}-stream", service="others") for n in range(MANY)]
    found = drawn(ours + readers + others, "users")
    assert {node.name for node in found.nodes if node.flow} == {"ferry", "welcome"}
    assert found.hidden == MANY
    assert drawn(ours + readers + others, "users", everything=True).hidden == 0


def test_no_projections_are_an_empty_map() -> None:
    assert drawn([], "users").nodes == ()


names = st.sampled_from(["a-stream", "b-stream", "c-stream", "d-stream"])


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["users", "mail"]),
            st.lists(names, min_size=1, unique=True),
            st.sampled_from(["local", "shared"]),
            st.none() | names,
        ),
        max_size=12,
    )
)
def test_nothing_covers_anything(made: list[tuple[str, list[str], str, str | None]]) -> None:
    found = drawn(
        [
            flow(f"p{n}", *streams, service=service, environment=where, shared_stream=target)
            for n, (service, streams, where, target) in enumerate(made)
        ],
        "users",
    )
    for a, b in combinations(found.nodes, 2):
        assert abs(a.x - b.x) >= WIDTH or abs(a.y - b.y) >= HEIGHT
    assert all(n.x + WIDTH <= found.width and n.y + HEIGHT <= found.height for n in found.nodes)
