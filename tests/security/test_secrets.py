"""Tokens, keys and passwords reach no file of a run and no line of output."""

import json
import logging
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import LightningModule, Trainer
from typing_extensions import override

from lmmcl import StageCallback
from lmmcl.data.bad_row import BadRow, RowError
from lmmcl.data.pictures.fetch import Wanted, fetch
from lmmcl.data.pictures.manners import Manners
from lmmcl.errors import UserError
from lmmcl.redaction import MARK, redacted, redacted_output, without_secrets
from tests.tiny_run import command

HUB = "hf_" + "Abcdefgh" * 4
ENVIRONMENT = "named-only-by-its-variable-42"
CONFIG = "no pattern knows this one"
OTHER = "nor this one that came later"
SIGNED = "5ignatureOfABucket"
PASSWORD = "pa55word"
PLANTED = (HUB, ENVIRONMENT, CONFIG, OTHER, SIGNED, PASSWORD)
ADDRESS = f"https://me:{PASSWORD}@store.example/1.jpg?X-Amz-Signature={SIGNED}&size=2"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (f"token {HUB}.", f"token {MARK}."),
        (ADDRESS, f"https://{MARK}@store.example/1.jpg?X-Amz-Signature={MARK}&size=2"),
        ("https://abc123@github.com/a/b.git", f"https://{MARK}@github.com/a/b.git"),
        ("postgres://u:secret@db/x", f"postgres://u:{MARK}@db/x"),
        ("https://h/x?access_token=abc#y", f"https://h/x?access_token={MARK}#y"),
        ("https://h/x?a=1&sig=a%2Fb&sv=2", f"https://h/x?a=1&sig={MARK}&sv=2"),
        ("--trainer.logger.init_args.api_key=abcdef", f"--trainer.logger.init_args.api_key={MARK}"),
        ("{'api_key': 'abcdef', 'n': 1}", f"{{'api_key': '{MARK}', 'n': 1}}"),
        ("Authorization: Bearer abcdefgh", f"Authorization: Bearer {MARK}"),
        ("AKIAABCDEFGHIJKLMNOP and ghp_" + "a" * 36, f"{MARK} and {MARK}"),
    ],
)
def test_a_secret_is_taken_out_and_nothing_else(text: str, clean: str) -> None:
    assert redacted(text) == clean
    assert redacted(clean) == clean


@pytest.mark.parametrize(
    "text",
    [
        "model.path: could not load hf_internal_testing/tiny: there is no such folder",
        "the answer token: 12, max_new_tokens=32, pad_token_id=0",
        "hf://datasets/owner/name@main/train.parquet, git@github.com:a/b.git, ssh://git@github.com/a/b",
        "https://example.org/a?size=2&page=3 at 10:30, key: value",
        "KeyError: 'answer'; columns are key=3",
        "data.tasks: mine: rows.jsonl, row 7: a row must have a question",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text) == text


@pytest.mark.parametrize(
    "text",
    [
        *(
            "api_" + "key=abcdef",
            "openaiApiKey: abcdef",
            "AWS_SECRET_ACCESS_KEY=abc/def+ghi",
            "my_password=ab,cd;ef",
        ),
        *("HF_TOKEN=abcdef", '"token": "abcdef"', "my-service-token=abcdef", "DEPLOY_SECRET='abcdef'"),
        *(
            "authorization: Basic dXNlcjpw",
            "Authorization: ApiKey abc def",
            "{'Authorization': 'Basic dXNlcjpw'}",
        ),
        *(
            "x bearer abcdef",
            "https://a:b@c@host/x",
            "redis://:abcdef@host",
            "https://h/#access_token=abcdef",
        ),
        *(
            "https://h/x?X-Goog-Signature=abcdef",
            "https://h/x?a=1&AWSAccessKeyId=abcdef",
            "https://h/x?jwt=abcdef",
        ),
        *(
            "x_" + HUB,
            "sk-proj-" + "a1" * 10,
            "sk-ant-api03-" + "a1" * 10,
            "sk_live_" + "a1" * 10,
            "gho_" + "a" * 36,
        ),
        *(
            "github_pat_" + "a" * 22,
            "ASIA" + "A" * 16,
            "AIza" + "a" * 35,
            "xoxb-1234567890-a",
            "nvapi-" + "a" * 40,
        ),
        *(
            "gsk_" + "a" * 40,
            "eyJhbGciOiJI.eyJzdWIiOiIx.abc",
            "-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc\n-----END",
        ),
    ],
)
def test_what_lets_somebody_in_is_taken_out_of_a_text(text: str) -> None:
    clean = redacted(text)
    assert MARK in clean and redacted(clean) == clean
    for secret in (
        "abc",
        "def",
        "dXNlcjpw",
        "a1a1",
        "aaaa",
        "AAAA",
        "MIIE",
        "b@",
        "c@",
        "ab,cd",
        HUB,
        "7890",
    ):
        assert secret not in clean


@pytest.mark.parametrize(
    "key",
    [
        *(
            "api_key",
            "apiKey",
            "openai_api_key",
            "OPENAI_API_KEY",
            "wandb-api-key",
            "x-api-key",
            "logger.api_key",
        ),
        *(
            "password",
            "passwd",
            "db_password",
            "dbPassword",
            "pgpassword",
            "passphrase",
            "pwd",
            "secret",
            "clientSecret",
        ),
        *(
            "token",
            "HF_TOKEN",
            "hf_token",
            "hub_token",
            "accessToken",
            "auth_token",
            "id_token",
            "group_token",
        ),
        *(
            "line_token",
            "user_token",
            "sessionToken",
            "api_tokens",
            "aws_access_key_id",
            "aws_secret_access_key",
        ),
        *(
            "private_key",
            "account_key",
            "authorization",
            "Authorization",
            "bearer",
            "auth",
            "credentials",
            "cookie",
        ),
    ],
)
@pytest.mark.parametrize("value", ["abc", ["abc", "d"], {"a": "abc", "b": ["abc"]}])
def test_nothing_under_a_secrets_name_is_kept_whatever_it_looks_like(key: str, value: Any) -> None:
    clean = without_secrets({"logger": [{key: value, "project": "p"}]})
    assert "abc" not in json.dumps(clean) and MARK in json.dumps(clean)
    assert clean["logger"][0]["project"] == "p"


def test_a_number_under_a_secrets_name_is_one_and_yes_no_and_nothing_are_none() -> None:
    config = {"password": 12345678, "use_auth_token": True, "token": None, "api_key": "", "secret": False}
    assert without_secrets(config) == {**config, "password": MARK}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(
            ("pad_token", "!"),
            ("eos_token", "<|im_end|>"),
            ("bos_token", "beginning"),
            ("unk_token", "[UNK]"),
        ),
        *(("sep_token", "|"), ("cls_token", "[CLS]"), ("mask_token", "mask"), ("image_token", "image")),
        *(
            ("video_token", "<video>"),
            ("audio_token", "a"),
            ("boi_token", "b"),
            ("eoi_token", "e"),
            ("eot_token", "e"),
        ),
        *(
            ("vision_start_token", "v"),
            ("fake_image_token", "f"),
            ("decoder_start_token", "s"),
            ("padToken", "p"),
        ),
        *(
            ("image_break_token", "[IMG_BREAK]"),
            ("sot_token", "</s>"),
            ("number_token", "<n>"),
            ("token", "<pad>"),
        ),
        *(("pad_token_id", 0), ("image_token_id", 151655), ("image_token_index", 32000), ("max_tokens", 512)),
        *(("max_new_tokens", 32), ("max_token", 5), ("token_type_ids", [0, 1]), ("tokens_per_batch", 4096)),
        *(
            ("forced_bos_token", "x"),
            ("additional_special_tokens", ["a", "b"]),
            ("tokenizer", "t"),
            ("token_count", "3"),
        ),
        *(
            ("extra_special_tokens", {"image_token": "i"}),
            ("tokenizer_class", "c"),
            ("key", "k"),
            ("keys", ["a"]),
        ),
        *(
            ("picture_key", "image"),
            ("group_by_key", "x"),
            ("author", "me"),
            ("authors", "we"),
            ("passes", 3),
        ),
        *(("compass", "north"), ("design", "d"), ("secretary", "bird"), ("number_token_bias", 0.5)),
    ],
)
def test_a_setting_of_a_model_or_tokenizer_stays(key: str, value: Any) -> None:
    config = {"model": [{key: value, "x": 1}]}
    assert without_secrets(config) == config
    text = json.dumps(config) + " " + " ".join(f"{key}={part}" for part in (value, repr(value)))
    assert redacted(text) == text


def test_a_long_text_is_looked_through_once() -> None:
    """A pattern that began anew at every word once took minutes for a row of a hundred thousand letters."""
    started = time.monotonic()
    for text in (
        "a-b.c-" * 5_000 + " ://",
        "https://" + "a:" * 10_000,
        "a.b-" * 10_000 + " token",
        "hf_token " * 5_000,
        "https://x/" + "-eyJ" * 20_000,
    ):
        redacted(text)
    assert time.monotonic() - started < 3.0


def test_a_secret_under_a_tokenizers_key_is_one() -> None:
    assert without_secrets({"pad_token": HUB}) == {"pad_token": MARK}


def test_values_of_the_environment_are_known_by_their_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", ENVIRONMENT)
    monkeypatch.setenv("MINIO_SECRET_KEY", f"{ENVIRONMENT}-too")
    monkeypatch.setenv("MY_TOKENS", "tokens-are-no-secret")
    monkeypatch.setenv("SOME_TOKEN", "short")
    monkeypatch.setenv("PAD_TOKEN", "<|endoftext|>")
    plain = "short tokens-are-no-secret <|endoftext|>"
    assert redacted(f"a{ENVIRONMENT}b {plain}") == f"a{MARK}b {plain}"
    monkeypatch.delenv("WANDB_API_KEY")
    assert redacted(ENVIRONMENT) == ENVIRONMENT


def test_errors_and_lists_of_bad_rows_hold_none() -> None:
    error = RowError(
        "rows.jsonl, row 3", f"a picture must be a file on disk, got {ADDRESS!r}; download it first."
    )
    said = f"{error} {UserError(ADDRESS)} {BadRow.of(error)}"
    assert SIGNED not in said and PASSWORD not in said and "store.example" in said


def test_the_list_of_failed_downloads_holds_none(tmp_path: Path) -> None:
    fetched = fetch([Wanted(ADDRESS, "0" * 64)], tmp_path, Manners(attempts=1))
    assert fetched.failures[0].reason.startswith("an address must hold no user")
    said = fetched.listed.read_text() + fetched.failures[0].reason
    assert SIGNED not in said and PASSWORD not in said and "store.example" in said


def test_all_output_passes_through_one_place(capsys: pytest.CaptureFixture[str]) -> None:
    with redacted_output():
        logging.StreamHandler().emit(logging.LogRecord("x", 30, "", 1, "logged %s", (HUB,), None))
        print("printed", ADDRESS)
        sys.stderr.writelines([f"written {HUB}\n"])
        sys.stdout.flush()
        assert not sys.stdout.isatty() and sys.stdout.writable()
    said = "".join(capsys.readouterr())
    assert HUB not in said and SIGNED not in said
    assert all(word in said for word in ("logged", "printed", "written", MARK))


class Leaky(StageCallback):
    """A user's callback that takes a key and says everything it knows, as clients of services do.

    Args:
        api_key: of a service.
        breaks: end the run by an error that says it all, too.
    """

    def __init__(self, api_key: str, breaks: bool = False) -> None:
        super().__init__()
        self.api_key = api_key
        self._breaks = breaks

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        told = f"api_key={self.api_key!r} {HUB} {ENVIRONMENT} {ADDRESS}"
        print(told)
        warnings.warn(told, stacklevel=2)
        logging.getLogger("leaky").error("%s", told)
        if self._breaks:
            raise RuntimeError(f"403 Client Error: Forbidden for url: {ADDRESS} {told}")


_YAML = """
model: {{path: {tiny}, lr: 0.01}}
data: {{tasks: [{{task: count, max_train_samples: 4}}], held_out: [], batch_size: 4, max_eval_samples: 2}}
trainer:
  precision: 32-true
  accelerator: cpu
  callbacks: [{{class_path: tests.security.test_secrets.Leaky, init_args: {{api_key: {key}, breaks: {breaks}}}}}]
run: {run}
"""


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Secrets in the environment; the tests take the warnings that say them for what they are."""
    monkeypatch.setenv("HF_TOKEN", HUB)
    monkeypatch.setenv("SERVICE_SECRET", ENVIRONMENT)
    with warnings.catch_warnings():
        warnings.filterwarnings("default", message="api_key=")
        yield


def _holding(folder: Path) -> dict[str, list[str]]:
    """Which files hold which secrets."""
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    found = {str(path): [one for one in PLANTED if one.encode() in data] for path, data in files.items()}
    return {path: secrets for path, secrets in found.items() if secrets}


@pytest.mark.usefixtures("told")
def test_no_file_of_a_run_and_no_line_of_output_holds_a_planted_secret(tiny: Path, tmp_path: Path) -> None:
    run, config = tmp_path / "run", tmp_path / "leaky.yaml"

    def fit(key: str, breaks: bool, *words: object) -> tuple[int, str]:
        config.write_text(_YAML.format(tiny=tiny, run=run, key=key, breaks=str(breaks).lower()))
        code, output, errors = command("fit", "--config", config, *words)
        assert not [one for one in PLANTED if one in output + errors]
        return code, output + errors

    code, said = fit(CONFIG, True, "--debug")
    assert code == 1 and "Traceback" in said and "store.example" in said
    code, said = fit(CONFIG, False)
    assert code == 0, said
    assert "api_key" in said and MARK in said
    # A key decides nothing: the run goes on with another one.
    code, said = fit(OTHER, False, "--ckpt_path", "last")
    assert code == 0, said
    code, _, errors = command("export", run, "--to", tmp_path / "exported")
    assert code == 0, errors
    config.unlink()
    assert _holding(tmp_path) == {}
    kept = (run / "config.yaml").read_text()
    assert f"api_key: '{MARK}'" in kept and "Leaky" in (run / "config.json").read_text()


def test_a_config_without_secrets_is_kept_to_the_byte(finished: Any) -> None:
    config = (finished.path / "config.yaml").read_text()
    assert MARK not in config + (finished.path / "config.json").read_text()
    assert json.loads((finished.path / "environment.json").read_text())["python"]


@pytest.mark.parametrize(
    "given",
    [
        ("--model.revision", HUB),
        ("--trainer.logger", f"{{class_path: a.B, init_args: {{token: {CONFIG.split()[-1]}}}}}"),
        (f"--x.pwd={PASSWORD}",),
        ("--x.cookie", PASSWORD),
    ],
)
def test_a_sweep_writes_no_secret_into_its_commands(
    given: tuple[str, ...], tiny: Path, tmp_path: Path
) -> None:
    config = tmp_path / "a.yaml"
    config.write_text(_YAML.format(tiny=tiny, run=tmp_path / "run", key="x", breaks="false"))
    words = ("--config", config, "--runs", tmp_path / "runs", "--grid", "seed=0,1", *given)
    code, output, errors = command("sweep", *words)
    assert code == 2 and "must hold no token and no password" in errors
    assert HUB not in output + errors and PASSWORD not in output + errors
    config.unlink()
    assert _holding(tmp_path) == {}


def test_a_secret_and_its_name_may_be_written_one_after_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    with redacted_output():
        print("password:", "hunter2hunter2")
        json.dump({"api_key": "hunter2hunter2"}, sys.stdout)
        print("asked", end="", flush=True)
        assert capsys.readouterr().out.endswith("asked")
        print(" and an end without a line", end="")
    said = capsys.readouterr()
    assert said.out == " and an end without a line"
    with redacted_output():
        print("password:", "hunter2hunter2")
        json.dump({"api_key": "hunter2hunter2"}, sys.stdout)
    assert "hunter2" not in capsys.readouterr().out
