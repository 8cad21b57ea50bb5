"""Removes secrets from texts: passwords in URLs, signed requests, tokens.

Secrets belong into the environment or a credentials file, but a URL may contain one, and then everyone who
sees the run folder, the log or the dashboard would see it. So texts go through `redacted` before they are
stored and through `for_display` before they are shown. Redaction depends only on the text and on the
environment's own secrets, and redacting again changes nothing, so that redacted configs can be compared.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from hornet_train.file_names import as_text

MARK = "***"
_MAX_MESSAGE = 10_000  # characters

# Names of secrets. Not names of secrets: class_token, num_tokens, key, sort_key.
_SECRET = (
    r"(?:(?:(?:hf|api|auth|access|refresh|bearer|session|security|private|secret|user|personal|oauth|sas|"
    r"wandb|github|gitlab|hub)[_-]?)token|password|passwd|passphrase|secret|credentials?|"
    r"(?:api|access|secret|private|account|signing|encryption|storage|sas|subscription|license)[_-]?key"
    r"(?:[_-]?id)?)"
)
_QUERY = (  # names of secrets in a URL's query, where short ones are usual
    rf"(?:[\w.~%-]{{0,60}}(?:{_SECRET}|signature|credential|security[_-]token)|token|key|sig|auth|"
    r"authorization|code|pass|pwd|jwt|policy)"
)
# Repetitions are bounded, so that the time grows linearly with the length of any text.
_SCHEME = r"((?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]{0,30}://)"
_TOKENS = (  # by their form: Hugging Face, AWS, GitHub, GitLab, W&B, Slack, Google, OpenAI, JSON web tokens
    r"\b(?:hf_[A-Za-z0-9]{16,200}|(?:AKIA|ASIA)[A-Z0-9]{16}|gh[pousr]_[A-Za-z0-9]{20,300}|"
    r"github_pat_\w{20,300}|glpat-[\w-]{16,300}|wandb_v\d_\w{16,300}|xox[abprs]-[\w-]{10,300}|"
    r"AIza[\w-]{30,100}|sk-[\w-]{20,300}|eyJ[\w-]{8,4000}\.[\w-]{8,4000}\.[\w-]{0,4000})"
)
_RULES = [
    (re.compile(pattern, re.IGNORECASE if ignore_case else 0), instead)
    for pattern, instead, ignore_case in (
        # scheme://user:password@host, also with a user alone, which may be a token
        (_SCHEME + r"[^\s/?#'\"<>]{1,4000}@", rf"\1{MARK}@", False),
        # a password with a slash in it, as S3 keys have; host:port/path@revision is not one
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
_ROUNDS = 4  # the result of one rule may match another
_SECRET_NAME = re.compile(rf"(?:.*[._-])?{_SECRET}|token|auth", re.IGNORECASE)
_IN_ENVIRONMENT = re.compile(r".*(?:TOKEN|PASSWORD|PASSWD|SECRET|API_?KEY|ACCESS_?KEY|CREDENTIALS?)", re.I)
_MIN_SECRET = 12  # characters of a secret in the environment; a shorter value may occur by chance
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def redacted(text: str) -> str:
    """A text with `***` in place of its secrets."""
    for value in _environment_secrets():
        text = text.replace(value, MARK)
    for _ in range(_ROUNDS):
        before = text
        for pattern, instead in _RULES:
            text = pattern.sub(instead, text)
        if text == before:
            break
    return text


def redacted_tree(tree: Any) -> Any:
    """`redacted` for every text in a tree of mappings and lists; the values of keys named like secrets become
    `***`."""
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


def for_display(text: str) -> str:
    """A message to show to a user: secrets redacted, control characters and what is not text in names of
    files escaped, and limited in length.

    A message may contain untrusted names: of a tensor, a class, a file.
    """
    # redact beyond the limit: a secret that is cut in two would not be recognised
    shown = redacted(as_text(text[: 2 * _MAX_MESSAGE]))[:_MAX_MESSAGE]
    shown = _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), shown)
    return shown if len(text) <= _MAX_MESSAGE else f"{shown}... (of {len(text):,} characters)"


def _environment_secrets() -> list[str]:
    """The values of environment variables with names of secrets; the longest first."""
    values = {v for k, v in os.environ.items() if len(v) >= _MIN_SECRET and _IN_ENVIRONMENT.fullmatch(k)}
    return sorted(values, key=len, reverse=True)
