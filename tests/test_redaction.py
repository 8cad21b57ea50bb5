"""Secrets are removed from texts, and nothing else is."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hornet_train.redaction import MARK, for_display, redacted, redacted_tree

SECRET = "Zq7xN3vKwP"
WITH_SECRET = [
    f"https://user:{SECRET}@host/x",
    f"https://{SECRET}@github.com/a/b.git",
    f"https://user:p@{SECRET}@host:8080/x?y=1",
    f"s3://AKIAXXX:ab/c+{SECRET}=@bucket/key",
    f"redis://:{SECRET}@host:1/2",
    f"https://host/x?X-Amz-Signature={SECRET}&X-Amz-Date=2",
    f"https://host/x?X-Amz-Credential={SECRET}%2F2024",
    f"https://host/x?sv=2020&sig={SECRET}%3D&se=1",
    f"https://host/x?a=1;access_token={SECRET}#top",
    f"hornet-train +hf_token={SECRET} seed=1",
    f"api_key: {SECRET}",
    f'{{"client_secret": "{SECRET}", "id": 1}}',
    f"AWS_SECRET_ACCESS_KEY={SECRET}",
    f"password = '{SECRET} and more'",
    f"Authorization: Bearer {SECRET}{SECRET}",
    f"the token hf_{SECRET}{SECRET} was refused",
    f"401 for ghp_{SECRET}{SECRET}",
    f"eyJhbGciOiJIUzI1NiJ9.{SECRET}.{SECRET}",
]
WITHOUT = [
    "https://host:8080/path@v1/x.parquet",
    "hf://datasets/owner/name@main/data/*.parquet",
    "data.name=imagenet-1k data.root=/data/imagenet model.args.class_token=true model.args.reg_tokens=4",
    "model.args={num_tokens: 4, token: x}",
    "best top1: 78.25 (ema weights, step 12,000)",
    "git commit 0123456789abcdef0123456789abcdef01234567",
    "step_00001200/model.safetensors: its SHA-256 does not match",
    "monkey=3 keyword=4 tokens=5 keys: 7",
]


@pytest.mark.parametrize("text", WITH_SECRET)
def test_a_secret_is_redacted(text: str) -> None:
    assert SECRET not in redacted(text)
    assert MARK in redacted(text)
    assert redacted(redacted(text)) == redacted(text)


@pytest.mark.parametrize("text", WITHOUT)
def test_a_text_without_secrets_is_unchanged(text: str) -> None:
    assert redacted(text) == text


def test_the_rest_of_a_url_is_unchanged() -> None:
    assert redacted(WITH_SECRET[0]) == "https://***@host/x"
    assert redacted(WITH_SECRET[5]) == "https://host/x?X-Amz-Signature=***&X-Amz-Date=2"


def test_secrets_of_the_environment_are_redacted_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SERVICE_TOKEN", "no-form-of-its-own")
    monkeypatch.setenv("SHORT_TOKEN", "data")
    assert redacted("it said no-form-of-its-own, of data") == "it said ***, of data"


def test_trees_are_redacted_by_name_too() -> None:
    tree = {"data": {"name": "s3://a:b@c", "n": [1, "https://x?token=1"], "password": "1234"}, "seed": 0}
    kept = redacted_tree(tree)
    assert kept["data"] == {"name": "s3://***@c", "n": [1, "https://x?token=***"], "password": MARK}
    assert kept["seed"] == 0
    assert redacted_tree(kept) == kept


WORDS = st.text(
    st.characters(codec="ascii", exclude_characters="/?#@'\"<> \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f"), min_size=1
)


@given(st.sampled_from(["https", "s3", "hf", "ftp"]), WORDS, st.text(alphabet="abc/@:?&=", max_size=20))
@example("https", ":", "@")
def test_no_password_survives_in_any_address(scheme: str, password: str, rest: str) -> None:
    marked = f"QQ{password}QQ"
    assert f":{marked}@" not in redacted(f"{scheme}://user:{marked}@host/{rest}")


PIECES = [*"ab:/@?&=;#'\" \n.-_*{}", "token", "https://", "password=", "hf_", "a" * 20]


@given(st.lists(st.sampled_from(PIECES)).map("".join))
def test_redacting_again_changes_nothing(text: str) -> None:
    once = redacted(text)
    assert redacted(once) == once


@pytest.mark.parametrize(
    "part", ["a", "a://", "a.b_", "://", "?", "token=", "x:", "a://b:", "secret='", "api_", "eyJ."]
)
def test_the_time_grows_linearly_with_the_text(part: str) -> None:
    def seconds(count: int) -> float:
        begin = time.process_time()
        redacted(part * count)
        return time.process_time() - begin

    seconds(100)
    assert seconds(20_000) < 60 * max(seconds(2_000), 0.02)


def test_a_message_has_no_control_characters_and_a_limited_length() -> None:
    assert for_display("a\x1b[2Jb\u202ec\td\ne") == "a\\x1b[2Jb\\u202ec\td\ne"
    assert len(for_display("x" * 10**7)) < 11_000
    cut = "x" * 9_990 + f"https://user:{SECRET}@host"
    assert SECRET[:5] not in for_display(cut)
