"""Secrets in files: read as values of `.env` are, and each fault is one line that names the setting and the path."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import AliasChoices, Field, SecretStr

from chassis.settings.secret_files import MOST_BYTES, named_by_file, with_secrets
from chassis.settings.service import ServiceSettings, WrongSettings, load_settings, read_into_environment
from chassis.settings.types import HeaderSecret, SigningSecret

SECRET = "hunter2"


class Settings(ServiceSettings):
    """Settings of a service with secrets of each form."""

    key: HeaderSecret = Field(validation_alias=AliasChoices("A_KEY", "A_OLD_KEY"), description="The key.")
    signing: SigningSecret | None = Field(default=None, validation_alias="A_SIGNING_SECRET")
    bare: SecretStr = Field(default=SecretStr(""), validation_alias="A_BARE")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith(("A_", "DATABASE_URL", "SEGUE_", "KAFKA_", "OTEL_")):
            monkeypatch.delenv(name)
    # Set once, so that what a test reads into the environment is taken out again.
    for name in ("A_KEY", "A_KEY_FILE", "A_OLD_KEY", "A_OLD_KEY_FILE", "DATABASE_URL_FILE"):
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "a:9092")
    monkeypatch.setenv("DATABASE_URL", "postgresql://me@db/segue")
    monkeypatch.chdir(tmp_path)


def file(folder: Path, content: str | bytes) -> str:
    path = folder / "secret"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


@pytest.mark.parametrize("name", ["A_KEY", "A_OLD_KEY", "A_SIGNING_SECRET", "A_BARE"])
def test_every_secret_can_be_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    monkeypatch.setenv("A_KEY" if name not in ("A_KEY", "A_OLD_KEY") else "LOG_LEVEL", "INFO")
    monkeypatch.setenv(f"{name}_FILE", file(tmp_path, f"{SECRET}\n"))
    settings = load_settings(Settings)
    read = {settings.key, settings.signing or SecretStr(""), settings.bare}
    assert SecretStr(SECRET) in read
    assert SECRET in settings.secrets()
    assert SECRET not in repr(settings)
    assert SECRET not in os.environ.values()


@pytest.mark.parametrize("encoded", [b"hunter2", b"hunter2\r\n", b" hunter2 \n\n", b"\xef\xbb\xbfhunter2\n",
                                     "hunter2\n".encode("utf-16")], ids=ascii)  # fmt: skip
def test_a_file_is_read_as_a_value_of_an_env_file_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, encoded: bytes
) -> None:
    monkeypatch.setenv("A_KEY_FILE", file(tmp_path, encoded))
    assert load_settings(Settings).key.get_secret_value() == SECRET


def test_the_database_is_one_of_them_and_a_link_is_followed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("A_KEY", "key")
    monkeypatch.delenv("DATABASE_URL")
    file(tmp_path, "postgresql://me:hunter2@db/segue\n")
    (tmp_path / "link").symlink_to("secret")
    (tmp_path / ".env").write_text("DATABASE_URL_FILE=link\n")
    assert load_settings(Settings).database_url.get_secret_value() == "postgresql://me:hunter2@db/segue"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "is empty: write the value into it"),
        (" \n\u200b\n", "is empty: write the value into it"),
        (b"hunter2\xff\xfe", "is not text in UTF-8: save it as that"),
        (b"hun\0ter2", "is not text in UTF-8: save it as that"),
        ("h" * (MOST_BYTES + 1), f"is larger than {MOST_BYTES} bytes: name a file that holds the value alone"),
        (None, "cannot be read: No such file or directory; correct the path, or the permissions"),
    ],
)
def test_a_file_that_holds_no_value_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | bytes | None, told: str
) -> None:
    path = str(tmp_path / "none") if content is None else file(tmp_path, content)
    monkeypatch.setenv("A_KEY_FILE", path)
    assert refused() == f"A_KEY_FILE: {path} {told}"


def test_what_is_no_file_does_not_block(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        monkeypatch.setenv("A_KEY_FILE", str(path))
        assert refused() == f"A_KEY_FILE: {path} is not a file: name a file that holds the value alone"


def test_a_wrong_value_is_reported_with_its_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = file(tmp_path, "hun\u200bter2")
    monkeypatch.setenv("A_OLD_KEY_FILE", path)
    fault = "has U+200B ZERO WIDTH SPACE as character 4 of 8: copy it again, without that (The key.)"
    assert refused() == f"A_OLD_KEY_FILE: {path}: {fault}"


def test_a_problem_without_a_file_stays_as_it_is() -> None:
    files = {"A_KEY": "/run/key"}
    for line in ("A_KEY is not set (The key.)", "B: no", "A_KEY_OTHER: no"):
        assert named_by_file(line, files) == line


def test_both_forms_of_a_secret_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = file(tmp_path, SECRET)
    (tmp_path / ".env").write_text(f"A_KEY=other\nA_KEY_FILE={path}\n")
    assert refused() == "A_KEY and A_KEY_FILE are both set: remove one of them"
    (tmp_path / ".env").unlink()
    monkeypatch.setenv("A_KEY", "other")
    monkeypatch.setenv("A_KEY_FILE", path)
    assert refused() == "A_KEY and A_KEY_FILE are both set: remove one of them"


def test_either_form_in_the_environment_goes_before_either_in_an_env_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = file(tmp_path, "from-the-file")
    (tmp_path / ".env").write_text(f"A_KEY_FILE={path}\n")
    monkeypatch.setenv("A_KEY", "around")
    assert load_settings(Settings).key.get_secret_value() == "around"
    (tmp_path / ".env").write_text("A_KEY=in-env-file\n")
    monkeypatch.delenv("A_KEY")
    monkeypatch.setenv("A_KEY_FILE", path)
    assert load_settings(Settings).key.get_secret_value() == "from-the-file"


def test_a_named_env_file_replaces_either_form(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("A_KEY_FILE", file(tmp_path, SECRET))
    (tmp_path / "more.env").write_text("A_KEY=other\n")
    read_into_environment(tmp_path / "more.env", override=True, secrets=("A_KEY",))
    assert load_settings(Settings).key.get_secret_value() == "other"


def test_all_faults_are_reported_at_once() -> None:
    environ = {"A_FILE": "/none/a", "B": "1", "B_FILE": "/none/b", "SSL_CERT_FILE": "/none/c"}
    with pytest.raises(Exception, match=r"^A_FILE: /none/a cannot be read: .*; B and B_FILE are both set") as raised:
        with_secrets(environ, ("B", "A"))
    assert "SSL_CERT" not in str(raised.value)
    assert with_secrets({"SSL_CERT_FILE": "/none"}, ("B",)) == {"SSL_CERT_FILE": "/none"}


def refused() -> str:
    with pytest.raises(WrongSettings) as raised:
        load_settings(Settings)
    assert SECRET not in str(raised.value)
    return str(raised.value)
