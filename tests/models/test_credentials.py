"""What is secret in options and addresses is in nothing that is shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.credentials import hide_credentials, hide_passwords, is_secret

PARTS = st.from_regex(r"[^/\s?:@*]{1,10}", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "without_password", "without_credentials"),
    [
        ("rtsp://me:pw@hub/cam", "rtsp://me:***@hub/cam", "rtsp://***@hub/cam"),
        ("rtsp://me:p@w@hub/cam", "rtsp://me:***@hub/cam", "rtsp://***@hub/cam"),
        ("http://hub/cam?key=x", "http://hub/cam?***", "http://hub/cam?***"),
        (
            "of http://a:b@c and mqtts://d:e@f:1",
            "of http://a:***@c and mqtts://d:***@f:1",
            "of http://***@c and mqtts://***@f:1",
        ),
        ("lavfi:movie=http\\://a:b@c/d", "lavfi:movie=http\\://a:***@c/d", "lavfi:movie=http\\://***@c/d"),
        ("what now?.mp4", "what now?.mp4", "what now?.mp4"),
        ("mail me@home about http://a/b", "mail me@home about http://a/b", "mail me@home about http://a/b"),
    ],
)
def test_what_is_left_of_an_address(text: str, without_password: str, without_credentials: str) -> None:
    assert hide_passwords(text) == without_password
    assert hide_credentials(text) == without_credentials


@given(user=PARTS, password=PARTS, host=PARTS, key=PARTS)
def test_hidden_is_hidden_however_often(user: str, password: str, host: str, key: str) -> None:
    address = f"rtsp://{user}:{password}@{host}/cam?{key}"
    for hide in (hide_passwords, hide_credentials):
        shown = hide(address)
        assert f"{password}@" not in shown
        assert shown.endswith("/cam?***")
        assert hide(shown) == shown


def test_a_secret_is_told_by_its_name_but_the_name_of_its_file_is_none() -> None:
    assert is_secret("page_token")
    assert is_secret("broker_password")
    assert not is_secret("broker_password_file")
    assert not is_secret("broker")
