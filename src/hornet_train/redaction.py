"""Secrets out of texts: passwords in URLs, signed requests, tokens.

They belong into the environment or a credentials file, but a URL may carry one, and then it would be told to
everyone who sees the run folder, the log or the dashboard. So texts go through `redacted` where they are
stored and through `told` where they are shown. It is a function of the text (and of the environment's own
secrets) and changes nothing that it has redacted once, so that redacted configs can be compared.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

MARK = "***"
_LONGEST = 10_000  # characters of a message

# What secrets are called. Not a secret's: class_token, num_tokens, key, sort_key.
_SECRET = (
    r"(?:(?:(?:hf|api|auth|access|refresh|bearer|session|security|private|secret|user|personal|oauth|sas|"
    r"wandb|github|gitlab|hub)[_-]?)token|password|passwd|passphrase|secret|credentials?|"
    r"(?:api|access|secret|private|account|signing|encryption|storage|sas|subscription|license)[_-]?key"
    r"(?:[_-]?id)?)"
)
_QUERY = (  # names in a URL's query, where a short one says enough
    rf"(?:[\w.~%-]{{0,60}}(?:{_SECRET}|signature|credential|security[_-]token)|token|key|sig|auth|"
    r"authorization|code|pass|pwd|jwt|policy)"
)
# Repetitions are bounded, so that no text takes time that grows faster than its length.
_SCHEME = r"((?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]{0,30}://)"
_TOKENS = (  # by their form: Hugging Face, AWS, GitHub, GitLab, W&B, Slack, Google, OpenAI, JSON web tokens
    r"\b(?:hf_[A-Za-z0-9]{16,200}|(?:AKIA|ASIA)[A-Z0-9]{16}|gh[pousr]_[A-Za-z0-9]{20,300}|"
    r"github_pat_\w{20,300}|glpat-[\w-]{16,300}|wandb_v\d_\w{16,300}|xox[abprs]-[\w-]{10,300}|"
    r"AIza[\w-]{30,100}|sk-[\w-]{20,300}|eyJ[\w-]{8,4000}\.[\w-]{8,4000}\.[\w-]{0,4000})"
)
_RULES = [
    (re.compile(pattern, re.IGNORECASE if ignore_case else 0), instead)
    for pattern, instead, ignore_case in (
        # scheme://user:password@host, and with nothing but a user: tokens stand there
        (_SCHEME + r"[^\s/?#'\"<>]{1,4000}@", rf"\1{MARK}@", False),
        # a password with a slash in it, as keys of S3 have; host:port/path@revision is none
        (
            _SCHEME + r"[^\s/:@?#'\"<>]{0,400}:(?!\d{1,5}(?:[/?#\s]|$))[^\s@'\"<>]{1,4000}@",
            rf"\1{MARK}@",
            False,
        ),
        (rf"([?&;#]{_QUERY}=)[^&;\s#'\"<>]{{1,8000}}", rf"\1{MARK}", True),
        # hf_token=..., "api_key": "...", aws.secret_access_key = ...
        (
            rf"((?<![A-Za-z0-9])(?:[\w.-]{{0,60}}[._-])?{_SECRET}['\"]?\s{{0,5}}[=:]\s{{0,5}})"
            r"(?:'[^']{1,8000}'|\"[^\"]{1,8000}\"|[^\s,;&'\"}\]]{1,8000})",
            rf"\1{MARK}",
            True,
        ),
        (r"(\b(?:Bearer|Basic)\s{1,5})[A-Za-z0-9+/=._~-]{8,8000}", rf"\1{MARK}", False),
        (_TOKENS, MARK, False),
    )
]
_ROUNDS = 4  # what one rule leaves may be another's
_SECRET_NAME = re.compile(rf"(?:.*[._-])?{_SECRET}|token|auth", re.IGNORECASE)
_IN_ENVIRONMENT = re.compile(r".*(?:TOKEN|PASSWORD|PASSWD|SECRET|API_?KEY|ACCESS_?KEY|CREDENTIALS?)", re.I)
_SHORTEST = 12  # characters of an environment's secret; a shorter one may stand anywhere by chance
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def redacted(text: str) -> str:
    """A text with `***` in place of its secrets."""
    for value in _environment():
        text = text.replace(value, MARK)
    for _ in range(_ROUNDS):
        before = text
        for pattern, instead in _RULES:
            text = pattern.sub(instead, text)
        if text == before:
            break
    return text


def redacted_tree(tree: Any) -> Any:
    """The same for every text in a tree of mappings and lists, and whatever is called as secrets are."""
    if isinstance(tree, str):
        return redacted(tree)
    if isinstance(tree, Mapping):
        return {
            key: MARK
            if isinstance(value, str) and value and _SECRET_NAME.fullmatch(str(key))
            else redacted_tree(value)
            for key, value in tree.items()
        }
    if isinstance(tree, list | tuple):
        return [redacted_tree(value) for value in tree]
    return tree


def told(text: str) -> str:
    """A message for a person: without secrets, without what would steer a terminal, not without end.

    Names in it may be anybody's: of a tensor, a class, a file.
    """
    shown = redacted(text[: 2 * _LONGEST])[:_LONGEST]  # a secret that is cut in two would not be known as one
    shown = _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), shown)
    return shown if len(text) <= _LONGEST else f"{shown}... (of {len(text):,} characters)"


def _environment() -> list[str]:
    """The secrets among the environment variables, by their names; the longest first."""
    values = {v for k, v in os.environ.items() if len(v) >= _SHORTEST and _IN_ENVIRONMENT.fullmatch(k)}
    return sorted(values, key=len, reverse=True)
