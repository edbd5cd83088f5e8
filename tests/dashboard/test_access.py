"""Who may see a dashboard, and from where it can be changed: as programs find it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest

from tests.command_line import CommandLine
from tests.dashboard.conftest import Serve
from tests.dashboard.serving import Dashboard, serving
from tests.dashboard.staged import Staged

TOKEN = "0123456789abcdef-token"
PASSWORD = "correct horse battery"
RETRY = "/do/retry/welcome-projection"


@pytest.fixture
def open_to_all(dashboard: Dashboard) -> Iterator[httpx.Client]:
    """A program that asks a dashboard at which nobody logs in."""
    with dashboard.client() as client:
        yield client


@pytest.fixture(scope="package")
def guarded(shown: Staged) -> Iterator[Dashboard]:
    """A dashboard with a token."""
    with serving(shown.mail.folder, EVENTFERRY_DASHBOARD_TOKEN=TOKEN) as running:
        yield running


@pytest.fixture
def with_token(guarded: Dashboard) -> Iterator[httpx.Client]:
    """One that asks it, and has shown nothing yet."""
    with guarded.client() as client:
        yield client


@pytest.fixture(scope="package")
def hashed(shown: Staged) -> str:
    """What `--hash-password` makes of the password."""
    line = CommandLine(shown.mail.folder, shown.mail_url, shown.shared_url)
    done = line.process("dashboard", "--hash-password", stdin=PASSWORD + "\n")
    assert done.code == 0, done
    return done.out.strip()


def secret_of(page: httpx.Response) -> str:
    """What its form sends along."""
    found = re.search(r'name="form" value="([^"]+)"', page.text)
    assert found, page.text
    return found[1]


def log_in(client: httpx.Client, after: str = "/", **said: str) -> httpx.Response:
    """Fills in the login page."""
    page = client.get("/login", params={"next": after})
    form = {"form": secret_of(page), **said}
    return client.post("/login", params={"next": after}, data=form)


# ---- from where


@pytest.mark.parametrize(
    "host", ["evil.example.org", "localhost.evil.example.org", "", "[", "[::1"]
)
def test_it_answers_under_its_own_name_alone(open_to_all: httpx.Client, host: str) -> None:
    answer = open_to_all.get("/api/overview", headers={"Host": host})
    assert answer.status_code == 403
    assert "does not answer under the name" in answer.text


@pytest.mark.parametrize("host", ["localhost", "localhost:8080", "127.0.0.1:1", "[::1]:8377"])
def test_it_answers_under_the_names_of_this_machine(open_to_all: httpx.Client, host: str) -> None:
    assert open_to_all.get("/livez", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "path", ["/", "/api/overview", "/live", "/login", "/nowhere", "/static/style.css"]
)
def test_every_answer_forbids_what_is_inline_and_from_elsewhere(
    open_to_all: httpx.Client, path: str
) -> None:
    with open_to_all.stream("GET", path) as answer:
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://evil.example.org"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1"},
    ],
)
def test_no_other_site_changes_anything(open_to_all: httpx.Client, headers: dict[str, str]) -> None:
    form = {"form": secret_of(open_to_all.get(RETRY))}
    answer = open_to_all.post(RETRY, data=form, headers=headers)
    assert answer.status_code == 403
    assert "has to come from a page of the dashboard" in answer.text


def test_another_site_may_link_to_a_page_and_not_fetch_it(open_to_all: httpx.Client) -> None:
    away = {"Sec-Fetch-Site": "cross-site"}
    assert open_to_all.get("/", headers={**away, "Sec-Fetch-Dest": "document"}).status_code == 200
    for destination in ("empty", "image", "iframe", "script"):
        headers = {**away, "Sec-Fetch-Dest": destination}
        assert open_to_all.get(RETRY, headers=headers).status_code == 403


@pytest.mark.parametrize("form", [{}, {"form": ""}, {"form": "of-another-session"}])
def test_a_form_of_another_session_is_refused(
    open_to_all: httpx.Client, form: dict[str, str]
) -> None:
    open_to_all.get(RETRY)
    answer = open_to_all.post(RETRY, data=form)
    assert answer.status_code == 403
    assert "earlier session" in answer.text


def test_two_dashboards_on_one_host_have_sessions_of_their_own(serve: Serve, shown: Staged) -> None:
    pages = [serve(shown.mail.folder, "--read-only").url + "/login" for _ in range(2)]
    with httpx.Client() as browser:  # it sends a host's cookies to all its ports
        first, _, again = (secret_of(browser.get(url)) for url in (*pages, pages[0]))
    assert again == first


def test_a_form_has_an_end(open_to_all: httpx.Client) -> None:
    form = {"form": secret_of(open_to_all.get(RETRY)), "reason": "x" * 1_000_000}
    assert open_to_all.post(RETRY, data=form).status_code == 403
    assert open_to_all.post(RETRY, content=iter([b"form=", b"x"])).status_code == 403


def test_read_only_changes_nothing(serve: Serve, shown: Staged) -> None:
    with serve(shown.mail.folder, "--read-only").client() as client:
        assert "/do/" not in client.get("/").text
        form = secret_of(client.get("/login"))
        for answer in (client.get(RETRY), client.post(RETRY, data={"form": form})):
            assert answer.status_code == 403
            assert "--read-only" in answer.text


# ---- who


@pytest.mark.parametrize(
    ("option", "value"), [("--host", "0.0.0.0"), ("--url", "https://ops.example.org/ferry")]
)
def test_beyond_this_machine_it_starts_only_with_a_login(
    shown: Staged, option: str, value: str
) -> None:
    line = CommandLine(shown.mail.folder, shown.mail_url, shown.shared_url)
    done = line.process("dashboard", option, value, "--port", "0")
    assert done.code == 2
    assert f"{option} {value} lets others" in done.err
    assert "nobody would be asked who he is" in done.err
    assert "EVENTFERRY_DASHBOARD_TOKEN" in done.err


def test_a_short_token_is_none(shown: Staged) -> None:
    line = CommandLine(shown.mail.folder, shown.mail_url, shown.shared_url)
    done = line.process("dashboard", "--port", "0", EVENTFERRY_DASHBOARD_TOKEN="secret")
    assert done.code == 2
    assert "it must have 16 or more" in done.err


def test_programs_that_show_no_token_are_told_so(with_token: httpx.Client) -> None:
    for path in ("/api/overview", "/live", "/api/nowhere"):
        answer = with_token.get(path)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert "Authorization" in answer.json()["error"]
    assert with_token.post(RETRY).status_code == 401
    wrong = {"Authorization": "Bearer wrong"}
    assert with_token.get("/api/overview", headers=wrong).status_code == 401
    right = {"Authorization": f"Bearer {TOKEN}"}
    assert with_token.get("/api/overview", headers=right).json()["service"] == "mail"


def test_people_are_led_to_the_login_and_back(with_token: httpx.Client) -> None:
    away = with_token.get("/parked?type=OrderPlaced")
    assert away.status_code == 303
    assert away.headers["Location"] == "/login?next=/parked%3Ftype%3DOrderPlaced"
    page = with_token.get(away.headers["Location"])
    assert "welcome-projection" not in page.text
    after = log_in(with_token, "/parked?type=OrderPlaced", password=TOKEN)
    assert after.headers["Location"] == "/parked?type=OrderPlaced"
    cookie = after.headers["Set-Cookie"]
    assert "httponly" in cookie.lower()
    assert "samesite=strict" in cookie.lower()
    assert with_token.get("/").status_code == 200


def test_an_open_page_whose_session_has_ended_goes_to_the_login(with_token: httpx.Client) -> None:
    answer = with_token.get("/audit", headers={"HX-Request": "true"})
    assert answer.headers["HX-Redirect"] == "/login?next=/audit"


@pytest.mark.parametrize("password", ["", "wrong", TOKEN[:-1], TOKEN + "\0"])
def test_who_gets_it_wrong_is_not_let_in(with_token: httpx.Client, password: str) -> None:
    answer = log_in(with_token, password=password)
    assert answer.status_code == 401
    assert "That is not the token" in answer.text
    assert with_token.get("/").status_code == 303


def test_a_session_ends_with_the_logout(with_token: httpx.Client) -> None:
    log_in(with_token, password=TOKEN)
    form = {"form": secret_of(with_token.get("/"))}
    assert with_token.post("/logout", data={"form": "another"}).status_code == 303
    assert with_token.get("/").status_code == 200
    ((name, cookie),) = with_token.cookies.items()
    assert with_token.post("/logout", data=form).headers["Location"] == "/login"
    assert with_token.get("/").status_code == 303
    with_token.cookies.clear()
    with_token.cookies.set(name, cookie)  # somebody has a copy of it
    assert with_token.get("/").status_code == 303


def test_a_session_that_nobody_has_signed_is_none(with_token: httpx.Client) -> None:
    log_in(with_token, password=TOKEN)
    ((name, cookie),) = with_token.cookies.items()
    body, _, rest = cookie.partition(".")
    with_token.cookies.clear()
    with_token.cookies.set(name, f"{body}x.{rest}")
    assert with_token.get("/").status_code == 303


@pytest.mark.parametrize(
    "after",
    [
        "https://evil.example.org/",
        "//evil.example.org",
        "/\\evil.example.org",
        "evil",
        "\t//evil.org",
        "/\t/evil.example.org",
    ],
)
def test_nobody_is_sent_to_another_site(with_token: httpx.Client, after: str) -> None:
    assert log_in(with_token, after, password=TOKEN).headers["Location"] == "/"


def test_users_are_known_by_their_passwords(serve: Serve, shown: Staged, hashed: str) -> None:
    assert hashed.startswith("$argon2id$")
    running = serve(shown.mail.folder, EVENTFERRY_DASHBOARD_USERS=f"grace:{hashed}")
    with running.client() as client:
        for name, password in (("grace", "wrong"), ("ada", PASSWORD), ("", PASSWORD)):
            assert log_in(client, name=name, password=password).status_code == 401
        answer = client.get("/api/overview")
        assert answer.headers["WWW-Authenticate"] == "Basic"
        assert "Basic" not in client.get("/live").headers["WWW-Authenticate"]
        assert client.get("/api/overview", auth=("grace", PASSWORD)).status_code == 200
        assert client.get("/api/overview", auth=("grace", "wrong")).status_code == 401
        assert client.get("/api/overview", auth=("gr\0ce", PASSWORD)).status_code == 401
        log_in(client, name="grace", password=PASSWORD)
        assert "Log out grace" in client.get("/").text


def test_a_proxy_says_who_the_user_is(serve: Serve, shown: Staged) -> None:
    options = ("--user-header", "X-Forwarded-User", "--url", "https://ops.example.org/ferry")
    with serve(shown.mail.folder, *options).client() as client:
        assert client.get("/").status_code == 401
        assert client.get("/", headers={"X-Forwarded-User": ""}).status_code == 401
        assert client.get("/ferry", headers={"X-Forwarded-User": "linus"}).status_code == 200
        page = client.get("/ferry/", headers={"X-Forwarded-User": "linus"})
        assert page.status_code == 200
        assert "linus" in page.text
        assert set(re.findall(r'(?:href|src|action)="(/[^/"]*)', page.text)) == {"/ferry"}
        assert "max-age" in page.headers["Strict-Transport-Security"]
        assert "secure" in page.headers["Set-Cookie"].lower()
        assert "path=/ferry;" in page.headers["Set-Cookie"]


def test_where_a_proxys_header_is_believed_another_name_is_refused(
    serve: Serve, shown: Staged
) -> None:
    options = ("--user-header", "X-Forwarded-User", "--url", "https://ops.example.org")
    with serve(shown.mail.folder, *options).client() as client:
        # a page under a name of its own that leads here could send any header
        rebound = {"Host": "evil.example.org", "X-Forwarded-User": "root"}
        assert client.get("/", headers=rebound).status_code == 403
        assert client.get("/livez", headers={"Host": "10.1.2.3:8377"}).status_code == 200


def test_a_form_may_come_from_the_address_that_people_use(serve: Serve, shown: Staged) -> None:
    options = ("--user-header", "X-User", "--read-only", "--url", "http://ops.example.org")
    with serve(shown.mail.folder, *options).client(headers={"X-User": "ada"}) as client:
        for origin, said in (("http://ops.example.org", "--read-only"), ("http://evil", "a page")):
            assert said in client.post(RETRY, headers={"Origin": origin}).text
