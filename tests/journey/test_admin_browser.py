"""In a real browser, under a strict policy: find a failed mail, look at it, retry it, see it sent."""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import django
import pytest
from django.contrib.auth.models import User
from django.core.mail import EmailMultiAlternatives
from django.http import HttpRequest, HttpResponse
from pytest_django.live_server_helper import LiveServer

from example_project.browser import chromium, find_chromium, log_in, look, session_of
from mail_outbox import outbox
from mail_outbox.models import OutboxEntry
from tests.fakes import REFUSED, Provider
from tests.journey.conftest import only_on
from tests.shells.admin.conftest import ENTRIES, page_of

pytestmark = [
    pytest.mark.journey,
    pytest.mark.slow,
    only_on("sqlite"),
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium: apt-get install chromium chromium-driver"),
]

HAS_CSP = django.VERSION >= (6, 1)
"""Since 6.1 the admin carries nonces; before, it needs `'self'`."""
HOSTILE = """
<!doctype html><html><head><meta http-equiv="refresh" content="0; url={site}/gone/"><base href="{site}/base/">
<script>parent.document.title = "taken over"; document.title = "ran"; fetch("{site}/script/")</script>
<link rel="stylesheet" href="{site}/style.css"></head>
<body onload="fetch('{site}/onload/')">
<p id="shown">Dear reader</p>
<img src="{site}/pixel.png"><img src="{resend}"><img src="x" onerror="fetch('{site}/onerror/')">
<svg xmlns="http://www.w3.org/2000/svg"><script>fetch("{site}/svg/")</script></svg>
<iframe src="{site}/frame/"></iframe><object data="{site}/object/"></object><video src="{site}/video/"></video>
<form action="{resend}" method="post" id="form"><button id="send" style="position:absolute;top:100px;left:0">Send</button></form>
<a id="link" href="{site}/link/" style="position:absolute;top:200px;left:0">Link</a>
<style>@import url("{site}/import.css"); body {{ background: url("{site}/background.png") }}</style>
</body></html>
"""


class PolicyMiddleware:
    """What Django's own middleware does since 6.0, for the versions before; with a log of all that was asked for."""

    asked: list[tuple[str, str]] = []

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Note the request, and forbid what was not allowed."""
        self.asked.append((request.method or "", request.path))
        response = self.get_response(request)
        if not HAS_CSP:
            response.headers.setdefault(
                "Content-Security-Policy",
                "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
                "font-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'self'",
            )
        return response


@pytest.fixture
def policy(settings: Any) -> list[tuple[str, str]]:
    """Serve everything under a strict policy, and return the log of what was asked for."""
    ours = f"{__name__}.PolicyMiddleware"
    settings.MIDDLEWARE = [ours, *settings.MIDDLEWARE]
    if HAS_CSP:
        from django.utils.csp import CSP

        settings.MIDDLEWARE = ["django.middleware.csp.ContentSecurityPolicyMiddleware", *settings.MIDDLEWARE]
        settings.SECURE_CSP = {
            "default-src": [CSP.NONE],
            "script-src": [CSP.NONCE, CSP.STRICT_DYNAMIC],
            "style-src": [CSP.NONCE],
            "img-src": [CSP.SELF, "data:"],
            "connect-src": [CSP.SELF],
            "frame-src": [CSP.SELF],
            "form-action": [CSP.SELF],
            "base-uri": [CSP.NONE],
            "frame-ancestors": [CSP.SELF],
        }
        [templates] = settings.TEMPLATES
        processors = [*templates["OPTIONS"]["context_processors"], "django.template.context_processors.csp"]
        settings.TEMPLATES = [{**templates, "OPTIONS": {"context_processors": processors}}]
    PolicyMiddleware.asked.clear()
    return PolicyMiddleware.asked


@pytest.fixture
def site(policy: Any) -> Iterator[LiveServer]:
    """Serve the site with the middleware as it is set now."""
    server = LiveServer("localhost")
    with urlopen(f"{server.url}/admin/login/") as response:  # noqa: S310 (our own server)
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    yield server
    server.stop()


@pytest.fixture
def browser(tmp_path: Path, site: Any) -> Iterator[Any]:
    """Open a browser in which somebody with all rights is logged in."""
    user = User.objects.create_superuser("ann", "ann@example.com", secrets.token_hex())
    with chromium(str(tmp_path / "profile")) as driver:
        driver.implicitly_wait(10)
        log_in(driver, site.url, session_of(user))
        yield driver


def click(driver: Any, text: str) -> None:
    """Click the link or the button with this text."""
    driver.find_element(
        "xpath", f"//a[normalize-space()='{text}'] | //input[@type='submit' and @value='{text}'] | //button[.='{text}']"
    ).click()


def complaints(driver: Any) -> list[str]:
    """Return what the browser's console says since the last look, of the pages and not of the mail in the frame."""
    lines = [line["message"] for line in driver.get_log("browser") if line["level"] in {"SEVERE", "WARNING"}]
    return [line for line in lines if "/favicon.ico" not in line]


def hostile(site: str, entry: str) -> EmailMultiAlternatives:
    message = EmailMultiAlternatives("Your order <b>7</b>", "Dear reader", "shop@example.com", ["jane@example.com"])
    message.attach_alternative(HOSTILE.format(site=site, resend=entry), "text/html")
    return message


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_find_a_failed_mail_look_at_it_retry_it_see_it_sent(browser: Any, site: Any, provider: Provider, scheme: str):
    provider.will(REFUSED)
    entry = outbox.enqueue(hostile(site.url, "/x/"))
    outbox.drain()
    look(browser, width=1280, height=900, scheme=scheme)

    browser.get(site.url + ENTRIES)
    click(browser, "failed")
    click(browser, "Your order <b>7</b>")
    assert "It failed" in browser.find_element("class name", "outbox-story").text
    click(browser, "Retry")
    click(browser, "Retry")
    assert "1 mail was put back to be sent." in browser.find_element("class name", "messagelist").text
    outbox.drain()
    browser.refresh()

    assert "Mailer 'default' accepted it" in browser.find_element("class name", "outbox-story").text
    click(browser, "Dashboard")
    background = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 18, 18)"}[scheme]
    entry.refresh_from_db()
    assert entry.state == "sent"
    assert complaints(browser) == []


def test_a_hostile_mail_has_no_effect(browser: Any, site: Any, provider: Provider, policy: list[tuple[str, str]]):
    resend = f"{site.url}{ENTRIES}act/resend/?ids=1"
    entry = outbox.enqueue(hostile(site.url, resend))
    outbox.drain()
    look(browser, width=1280, height=1000)
    policy.clear()

    browser.get(f"{site.url}{page_of(entry)}?show=html")
    frame = browser.find_element("tag name", "iframe")
    width = frame.get_property("clientWidth")
    browser.find_element("id", "outbox-375").click()
    assert (width > 700, frame.get_property("clientWidth")) == (True, 375)
    browser.find_element("id", "outbox-768").click()
    assert frame.get_property("clientWidth") == 768
    browser.switch_to.frame(frame)
    assert browser.find_element("id", "shown").text == "Dear reader"
    for name in ("send", "link"):
        browser.find_element("id", name).click()
    assert browser.find_element("id", "shown").text == "Dear reader"
    browser.switch_to.default_content()

    assert browser.title.startswith(f"Mail {entry.pk}")
    static = "/static/"
    asked = {(method, path) for method, path in policy if not path.startswith((static, "/favicon"))}
    assert asked == {("GET", page_of(entry)), ("GET", f"{ENTRIES}{entry.pk}/html/")}
    assert OutboxEntry.objects.count() == 1


def test_the_same_mail_opened_by_itself_has_no_effect_either(
    browser: Any, site: Any, provider: Provider, policy: list[tuple[str, str]]
):
    entry = outbox.enqueue(hostile(site.url, f"{site.url}{ENTRIES}act/resend/?ids=1"))
    policy.clear()

    browser.get(f"{site.url}{ENTRIES}{entry.pk}/html/")

    assert browser.find_element("id", "shown").text == "Dear reader"
    assert browser.title != "ran"
    assert {path for _, path in policy if not path.startswith("/favicon")} == {f"{ENTRIES}{entry.pk}/html/"}


PAGES = (
    "{list}",
    "{list}dashboard/",
    "{entry}",
    "{entry}?show=html",
    "{entry}?show=headers",
    "{list}act/resend/?ids={pk}",
    "{list}act/reschedule/?ids={pk}",
    "{list}mailers/pause/?mailer=default",
)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_is_wider_than_a_phone_or_too_pale_to_read(browser: Any, site: Any, provider: Provider, scheme: str):
    provider.will(REFUSED)
    message = hostile(site.url, "/x/")
    message.subject = "Wide" * 60
    message.to = [f"{'long' * 15}@{'example' * 8}.com"]
    entry = outbox.enqueue(message)
    outbox.drain()
    outbox.pause("default", reason="a" * 200)

    for page in PAGES:
        look(browser, width=375, height=800, scheme=scheme)
        browser.get(site.url + page.format(list=ENTRIES, entry=page_of(entry), pk=entry.pk))
        overflow = browser.execute_script("return document.documentElement.scrollWidth - window.innerWidth")
        assert overflow <= 0, page
        assert browser.execute_script(PALE) == [], page
    assert complaints(browser) == []


def test_everything_can_be_reached_with_the_keyboard_and_has_a_name(browser: Any, site: Any, provider: Provider):
    provider.will(REFUSED)
    entry = outbox.enqueue(hostile(site.url, "/x/"))
    outbox.drain()

    for page in PAGES:
        browser.get(site.url + page.format(list=ENTRIES, entry=page_of(entry), pk=entry.pk))
        assert browser.execute_script(NAMELESS) == [], page
        assert browser.execute_script(HEADLESS) == [], page
    browser.get(f"{site.url}{page_of(entry)}")
    order = browser.execute_script(TAB_ORDER)
    assert order.index("Retry") < order.index("Text") < order.index("Download .eml")
    assert not browser.execute_script("return [...document.querySelectorAll('[tabindex]')].some(e => e.tabIndex > 0)")


# WCAG 2.2, 1.4.3: a contrast of 4.5 for text, 3 for large text; what lies on a picture or a gradient is left out.
PALE = """
const channel = c => { c /= 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4 };
const parse = text => (text.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
const light = c => 0.2126 * channel(c[0]) + 0.7152 * channel(c[1]) + 0.0722 * channel(c[2]);
const behind = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
  if (c.length < 4 || c[3] > 0.99) return c } return [255, 255, 255] };
const pale = [];
for (const e of document.querySelectorAll('.outbox *, .outbox-banner, .outbox-banner *, #result_list .outbox-badge')) {
  if (e.closest('svg') || !e.checkVisibility() || ![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
  const style = getComputedStyle(e), a = light(parse(style.color)), b = light(behind(e));
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < (parseFloat(style.fontSize) >= 24 ? 3 : 4.5)) pale.push(e.className + ': ' + e.textContent.trim().slice(0, 40) + ' ' + ratio.toFixed(2));
}
return pale;
"""
NAMELESS = """
return [...document.querySelectorAll('#content input:not([type=hidden]), #content select, #content textarea, #content a, #content button, #content iframe, #content [role=region]')]
  .filter(e => e.checkVisibility())
  .filter(e => !(e.textContent.trim() || e.value || e.title || e.getAttribute('aria-label') || (e.labels && e.labels.length)))
  .map(e => e.outerHTML);
"""
HEADLESS = """
return [...document.querySelectorAll('.outbox table')]
  .filter(t => [...t.querySelectorAll('thead th')].some(h => h.scope !== 'col' || !h.textContent.trim()) || ![...t.querySelectorAll('tbody tr')].every(r => r.querySelector('th[scope=row]')))
  .map(t => t.outerHTML.slice(0, 200));
"""
TAB_ORDER = """
return [...document.querySelectorAll('#content a, #content button, #content input, #content [tabindex]')].map(e => e.textContent.trim());
"""
