"""The page in a real browser: what it shows, how it lives, and that everybody can use it."""

from __future__ import annotations

import signal
import subprocess
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from selenium.webdriver.common.keys import Keys

from stream.messages import InputStatus, Transcript, TranscriptWord
from stream.page.options import PageOptions
from tests.commands import command_line
from tests.stream.brokers import free_port
from tests.stream.page.browsers import CONTRASTS, Browser
from tests.stream.page.serving import ServedPage, loop_estimate, page_status

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture
def browser(window: Browser) -> Browser:
    window.size(1280, 900)
    window.wish(color_scheme="light")
    return window


@pytest.fixture
def page() -> Iterator[ServedPage]:
    with ServedPage(publish_transcript=True) as served:
        served.tell_minute()
        yield served


def is_running(browser: Browser) -> bool:
    return browser.text("state-text") == "running"


def test_a_newcomer_sees_a_real_run_move_within_a_minute(browser: Browser) -> None:
    url = f"http://127.0.0.1:{free_port()}/"
    options = ("--demo", "--broker", "none", "--accelerator", "eager", "--view", "none", "--preview")
    began = time.monotonic()
    run = subprocess.Popen(
        command_line("stream-run", *options, "--page", "--page-address", url[7:-1]),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert run.stderr is not None
        assert run.stderr.readline() == f"stream-run: the page is at {url}\n"
        browser.open(url)
        seen = set()

        def moves() -> bool:
            seen.add(browser.text("valence"))
            return len(seen) > 4

        browser.until(moves, timeout_s=60)
        assert time.monotonic() - began < 60
        browser.until(lambda: browser.text("crop-word") == "a face")
        assert browser.text("good-for").startswith("demo is trained on performed people")
        browser.press(Keys.TAB + Keys.ENTER)
        browser.until(lambda: browser.text("state-text") == "paused")
        assert browser.complaints() == []
        run.send_signal(signal.SIGINT)
        assert run.wait(20) == 130
        browser.until(lambda: browser.text("state-text") == "ended")
    finally:
        run.kill()
        run.wait()


def test_it_shows_what_the_run_says(browser: Browser, page: ServedPage) -> None:
    words = tuple(TranscriptWord(word, 0.0, 0.4) for word in ("you", "make", "me", "smile"))
    page.tell("offer_transcript", Transcript(0, words, False))
    page.tell(
        "offer_status", page_status(drops={"estimate_busy": 3}, degraded="visual-2", notes=("a drawing",))
    )
    browser.open(page.url)
    browser.until(lambda: is_running(browser))
    newest = loop_estimate(299)
    assert browser.text("source") == "talk.mp4"
    assert browser.text("valence") == f"{newest.value.valence:+.2f}".replace("-", "−")
    assert browser.text("valence-spread") == "± 0.08"
    assert browser.text("arousal-spread") == "± 0.12"
    assert browser.text("words").strip() == "you make me smile"
    assert browser.text("good-for") == "demo is trained on drawn people: good for showing."
    assert browser.text("rate") == "30.0 frames/s"
    assert browser.text("drops") == "3 (the machine was behind)"
    assert "every second picture" in browser.text("rung")
    assert "20 ms" in browser.text("latency")
    assert "a drawing" in browser.text("notes")
    inputs = browser.text("inputs")
    assert "camera: working" in inputs
    assert "What helps: models-pull vosk-model-small-en-us-0.15" in inputs
    assert browser.run("return document.getElementById('present-face').innerText").startswith("face")
    assert browser.run("return document.getElementById('present-face').dataset.present") == "true"
    assert not browser.run("return document.getElementById('untrained').checkVisibility()")
    assert not browser.run("return document.getElementById('preview').checkVisibility()")
    browser.until(lambda: all(browser.ink(canvas) > 2000 for canvas in ("plane", "timeline")))
    assert browser.complaints() == []


def test_it_moves_by_itself(browser: Browser, page: ServedPage) -> None:
    browser.open(page.url)
    browser.until(lambda: is_running(browser))
    before = [browser.picture(canvas) for canvas in ("plane", "timeline")]
    page.tell("offer", *(loop_estimate(frame) for frame in range(300, 400)))
    newest = f"{loop_estimate(399).value.arousal:+.2f}".replace("-", "−")
    browser.until(lambda: browser.text("arousal") == newest)
    browser.until(
        lambda: all(browser.picture(c) != old for c, old in zip(("plane", "timeline"), before, strict=True))
    )


def test_a_lost_input_is_said_at_the_top_with_the_way_out(browser: Browser, page: ServedPage) -> None:
    browser.open(page.url)
    browser.until(lambda: is_running(browser))
    lost = {"camera": InputStatus("lost", "unplugged", "plug it in again")}
    page.tell("offer_status", page_status(inputs=lost))
    browser.until(lambda: "lost (unplugged). What helps: plug it in again" in browser.text("troubles"))
    page.tell("offer_status", page_status())
    browser.until(lambda: browser.text("troubles") == "")


def test_a_gap_is_left_where_there_was_nobody_and_the_values_say_so(
    browser: Browser, page: ServedPage
) -> None:
    browser.open(page.url)
    browser.until(lambda: is_running(browser))
    page.tell("offer", *(loop_estimate(frame, seen=False) for frame in range(300, 400)))
    browser.until(lambda: browser.text("valence-word") == "nobody to go by")
    # Of the hundred frames neither line nor band is drawn: a column in their middle has no colour of valence.
    coloured = browser.run(
        """const c = document.getElementById('timeline');
        const x = (second) => Math.round(66 + (second / 60) * (c.width - 88));
        return [5, 12].map((second) => [...c.getContext('2d').getImageData(x(second), 20, 1, 150).data]
          .filter((v, i, d) => i % 4 === 0 && d[i + 3] > 60 && d[i + 2] - v > 60).length)"""
    )
    assert coloured[0] > 0
    assert coloured[1] == 0


def test_an_untrained_bundle_is_said_plainly(browser: Browser, page: ServedPage) -> None:
    bundle = replace(page_status().bundle, trained=False)
    page.tell("offer_status", page_status(bundle=bundle))
    browser.open(page.url)
    browser.until(lambda: "mean nothing" in browser.text("untrained"))


def test_several_viewers_see_the_same_and_steer_each_other(browser: Browser, page: ServedPage) -> None:
    other = Browser()
    try:
        for viewer in (browser, other):
            viewer.open(page.url)
        browser.until(lambda: is_running(browser) and is_running(other))
        assert page.sink.counters["page_viewers"] == 2
        other.run("document.getElementById('pause').click()")
        browser.until(lambda: {viewer.text("state-text") for viewer in (browser, other)} == {"paused"})
        for viewer in (browser, other):
            assert viewer.text("pause") == "Resume"
        assert page.engine.commands == ["pause"]
        assert browser.text("valence") == other.text("valence")
    finally:
        other.close()
    browser.until(lambda: page.sink.counters["page_viewers"] == 1)


def test_it_joins_again_after_the_server_was_restarted(browser: Browser, page: ServedPage) -> None:
    browser.open(page.url)
    browser.until(lambda: is_running(browser))
    page.tell("offer_status", page_status(phase="stopped"))
    page.stop()
    browser.until(lambda: browser.text("state-text") == "ended")
    with page:
        page.tell("offer_status", page_status(source="another.mp4"))
        page.tell("offer", loop_estimate(0))
        browser.until(lambda: browser.text("source") == "another.mp4")
        browser.until(lambda: is_running(browser))
        assert browser.text("valence") == "+0.80"


def test_a_server_that_vanishes_is_said_and_sought(browser: Browser) -> None:
    with ServedPage() as page:
        page.tell_minute(30)
        browser.open(page.url)
        browser.until(lambda: is_running(browser))
        # Without a goodbye, as when the process is killed.
        page.sink._feed.end = lambda: None  # type: ignore[method-assign]
    browser.until(lambda: browser.text("state-text") == "no connection: trying again")
    assert browser.run("return document.getElementById('pause').disabled")
    with page:
        page.tell_minute(30)
        browser.until(lambda: is_running(browser))


def test_the_keyboard_is_enough(browser: Browser, page: ServedPage) -> None:
    browser.open(page.url)
    browser.until(lambda: is_running(browser))
    browser.run("document.body.focus()")
    reached = []
    for _ in range(5):
        browser.press(Keys.TAB)
        reached.append(browser.focused())
        outline = browser.run("return getComputedStyle(document.activeElement).outlineWidth")
        assert float(outline.removesuffix("px")) >= 2
    assert reached == ["pause", "recenter", "say", "marker", "Mark"]
    browser.press(Keys.SHIFT + Keys.TAB)
    browser.press("question 1" + Keys.ENTER)
    browser.until(lambda: "question 1" in browser.text("markers"))
    assert browser.text("reply") == "Marked: question 1"
    assert [marker.text for marker in page.engine.markers] == ["question 1"]
    browser.run("document.getElementById('recenter').focus()")
    browser.press(Keys.ENTER)
    browser.run("document.getElementById('pause').focus()")
    browser.press(Keys.SPACE)
    browser.until(lambda: page.engine.commands == ["recenter", "pause"])
    browser.press(Keys.SPACE)
    browser.until(lambda: page.engine.commands == ["recenter", "pause", "resume"])


def test_a_screen_reader_hears_of_changes_and_what_it_asks_for_and_no_chatter(
    browser: Browser, page: ServedPage
) -> None:
    browser.open(page.url)
    browser.until(lambda: browser.text("live").endswith("running"))
    browser.run(
        """window.heard = [];
        new MutationObserver(() => { const t = document.getElementById('live').textContent; if (t) heard.push(t); })
          .observe(document.getElementById('live'), { childList: true, characterData: true, subtree: true })"""
    )
    for frame in range(300, 360):
        page.tell("offer", loop_estimate(frame))
        time.sleep(1 / 30)
    assert browser.run("return heard") == []
    browser.run("document.getElementById('say').click()")
    browser.until(lambda: browser.run("return heard.length") == 1)
    assert browser.run("return heard[0]").startswith("Valence ")
    page.tell("offer_status", page_status(phase="paused"))
    browser.until(lambda: browser.run("return heard.length") == 2)
    assert browser.run("return heard[1]") == "talk.mp4: paused"
    lost = {"camera": InputStatus("lost", "unplugged", "plug it in again")}
    page.tell("offer_status", page_status(inputs=lost))
    browser.until(lambda: browser.run("return heard.at(-1)") == "talk.mp4: running, the camera is lost")
    for canvas in ("plane", "timeline"):
        described = browser.run(
            """const c = document.getElementById(arguments[0]);
            return [c.getAttribute('role'), c.getAttribute('aria-label'),
                    document.getElementById(c.getAttribute('aria-describedby')).textContent]""",
            canvas,
        )
        assert described[0] == "img"
        assert described[1]
        assert "Valence" in described[2]
    unnamed = browser.run(
        """return [...document.querySelectorAll('button, input, select')]
          .filter((e) => !(e.textContent.trim() || e.labels?.length || e.getAttribute('aria-label'))).length"""
    )
    assert unnamed == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(browser: Browser, page: ServedPage, scheme: str) -> None:
    browser.wish(color_scheme=scheme)
    page.tell("offer_status", page_status(inputs={"camera": InputStatus("lost", "unplugged", "plug it in")}))
    browser.open(page.url)
    browser.until(lambda: is_running(browser))
    found: dict[str, Any] = browser.run(CONTRASTS)
    assert len(found["texts"]) > 30
    assert [text for text in found["texts"] if text[1] < 4.5] == []
    assert [drawn for drawn in found["drawn"] if drawn[1] < 3] == []


def test_the_system_s_theme_is_followed_at_once(browser: Browser, page: ServedPage) -> None:
    browser.open(page.url)
    browser.until(lambda: browser.ink("timeline") > 2000)
    grounds, pictures = [], []
    for scheme in ("light", "dark"):
        browser.wish(color_scheme=scheme)
        time.sleep(0.3)
        grounds.append(browser.run("return getComputedStyle(document.body).backgroundColor"))
        pictures.append(browser.picture("timeline"))
    assert grounds[0] != grounds[1]
    assert pictures[0] != pictures[1]


def test_reduced_motion_has_no_trail_and_few_pictures(browser: Browser, page: ServedPage) -> None:
    browser.open(page.url)
    browser.until(lambda: is_running(browser))
    time.sleep(0.3)
    with_trail = browser.ink("plane")
    browser.wish(color_scheme="light", reduced_motion="reduce")
    browser.open(page.url)
    browser.until(lambda: is_running(browser))
    browser.until(lambda: browser.ink("plane") > 1000)
    assert browser.ink("plane") < with_trail
    pictures = set()
    for frame in range(300, 345):
        page.tell("offer", loop_estimate(frame))
        pictures.add(browser.picture("timeline"))
        time.sleep(1 / 30)
    assert len(pictures) <= 5
    moving = browser.run(
        """const moves = (e, what) => parseFloat(getComputedStyle(e)[what]) > 0;
        return [...document.querySelectorAll('*')]
          .filter((e) => moves(e, 'transitionDuration') || moves(e, 'animationDuration')).length"""
    )
    assert moving == 0


@pytest.mark.parametrize("width", [320, 390, 768, 1024, 1920])
def test_it_fits_any_width(browser: Browser, page: ServedPage, width: int) -> None:
    browser.size(width, 800)
    long = "a-source-with-a-name-that-nobody-would-ever-want-to-read-on-a-phone-" * 2
    page.tell("offer_status", page_status(source=long))
    browser.open(page.url)
    browser.until(lambda: is_running(browser))
    assert browser.run("return document.documentElement.scrollWidth") <= width
    for canvas in ("plane", "timeline"):
        assert browser.run("return document.getElementById(arguments[0]).clientWidth", canvas) > 200


def test_nothing_is_asked_for_elsewhere_and_nothing_is_complained_of(
    browser: Browser, page: ServedPage
) -> None:
    browser.open(page.url)
    browser.until(lambda: is_running(browser))
    page.tell("offer", *(loop_estimate(frame) for frame in range(300, 330)))
    browser.run("document.getElementById('pause').click()")
    browser.until(lambda: browser.text("state-text") == "paused")
    asked = browser.requested()
    assert len(asked) > 8
    assert [url for url in asked if not url.startswith((page.url, "about:", "data:"))] == []
    assert browser.complaints() == []


def test_the_policy_holds_in_the_browser(browser: Browser, page: ServedPage) -> None:
    browser.open(page.url)
    browser.until(lambda: is_running(browser))
    ran = browser.run(
        """const script = document.createElement('script'); script.textContent = 'window.injected = true';
        document.body.append(script); return window.injected === true"""
    )
    assert ran is False


def test_texts_of_others_are_never_markup(browser: Browser, page: ServedPage) -> None:
    nasty = "<img src=x onerror=window.injected=1>"
    page.tell("offer_status", page_status(source=nasty, inputs={nasty: InputStatus("lost", nasty, nasty)}))
    page.engine.mark(nasty, "mqtt")
    page.tell("offer_transcript", Transcript(0, (TranscriptWord(nasty, 0.0, 0.4),), True))
    browser.open(page.url)
    browser.until(lambda: is_running(browser))
    assert browser.text("source") == nasty
    assert browser.run("return document.querySelectorAll('img').length") == 0


def test_the_crop_is_seen_only_with_preview(browser: Browser) -> None:
    with ServedPage(PageOptions(port=0, preview=True)) as page:
        page.tell_minute(30)
        browser.open(page.url)
        browser.until(lambda: is_running(browser))

        def shows_it() -> bool:
            page.show_crop(120)
            pixel = browser.run(
                "return [...document.getElementById('crop').getContext('2d').getImageData(5, 5, 1, 1).data]"
            )
            return bool(pixel == [120, 120, 120, 255])

        browser.until(shows_it)
        assert "a face" in browser.text("preview")


def test_beyond_this_machine_the_token_opens_the_page_once_and_for_all(browser: Browser) -> None:
    with ServedPage(PageOptions(port=0, token="correct-horse-battery")) as page:
        page.tell_minute(30)
        browser.open(page.url)
        assert browser.focused() == "token"
        found = browser.run(CONTRASTS)
        assert [text for text in found["texts"] if text[1] < 4.5] == []
        for width in (320, 1280):
            browser.size(width, 800)
            assert browser.run("return document.documentElement.scrollWidth") <= width
            assert browser.run("return document.getElementById('token').clientWidth") > 200
        browser.press("wrong-horse-battery" + Keys.ENTER)
        browser.until(lambda: "That is not the token" in browser.run("return document.body.innerText"))
        browser.run("document.getElementById('token').focus()")
        browser.press("correct-horse-battery" + Keys.ENTER)
        browser.until(lambda: browser.run("return !!document.getElementById('state-text')"))
        browser.until(lambda: is_running(browser))
        assert browser.driver.current_url == page.url
        browser.open(page.url)
        browser.until(lambda: is_running(browser))
        browser.driver.delete_all_cookies()
        browser.open(f"{page.url}?token=correct-horse-battery")
        browser.until(lambda: is_running(browser))
        assert browser.driver.current_url == page.url


def test_publishers_are_chosen_where_there_are_several(browser: Browser) -> None:
    with ServedPage() as page:
        for name, frame in (("desk", 0), ("sofa", 280)):
            page.sink._feed.take(name, "estimate", loop_estimate(frame).to_json())
            page.sink._feed.take(name, "status", page_status().to_json())
        browser.open(page.url)
        browser.until(lambda: browser.text("source") == "desk: talk.mp4")
        assert browser.text("valence") == "+0.80"
        browser.run(
            """const s = document.getElementById('publishers'); s.value = 'sofa';
            s.dispatchEvent(new Event('change'))"""
        )
        browser.until(lambda: browser.text("source") == "sofa: talk.mp4")
        assert browser.text("valence") != "+0.80"
        page.stop()
        browser.until(lambda: browser.text("state-text") == "ended")
        with page:
            # One that has no status yet shows nothing of the other's, and who was chosen is shown once it is back.
            page.sink._feed.take("desk", "available", "online")
            browser.until(lambda: browser.text("source") == "desk")
            assert [browser.text(name) for name in ("inputs", "good-for", "rate")] == ["", "", "–"]
            page.sink._feed.take("sofa", "status", page_status().to_json())
            browser.until(lambda: browser.text("source") == "sofa: talk.mp4")


def test_one_viewer_too_many_is_told_so_and_let_in_when_there_is_room(browser: Browser) -> None:
    with ServedPage() as page, httpx.Client(limits=httpx.Limits(max_connections=64), timeout=10) as others:
        page.tell_minute(30)
        request = others.build_request("GET", f"{page.url}events")
        held = [others.send(request, stream=True) for _ in range(32)]
        browser.open(page.url)
        browser.until(lambda: "too many look at this page" in browser.text("state-text"))
        held.pop().close()
        browser.until(lambda: is_running(browser))
        for answer in held:
            answer.close()
