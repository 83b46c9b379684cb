"""What is asked of the hub, in which order, and which of a dataset's files are its own."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError, RevisionNotFoundError

from lmmcl.data.hub import load
from lmmcl.data.hub.card import check_files
from lmmcl.data.hub.source import HubTable
from lmmcl.errors import UserError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OWN = f"hf://datasets/owner/name@{COMMIT}"
CARD = "---\nconfigs:\n- config_name: default\n  data_files: {}\n---\n"


class Hub:
    """A hub with one dataset, and `datasets` as it would be with that; both remember what they are asked."""

    def __init__(self, folder: Path) -> None:
        self.cards: dict[str, str] = {}
        self.files = [f"{OWN}/data/test.parquet"]
        self.built_at, self.reachable, self.offline_at_build = OWN, True, False
        self.asked: list[Any] = []
        self._folder = folder / "snapshots" / COMMIT

    def download(self, dataset: str, name: str, *, repo_type: str, revision: str | None) -> str:
        self.asked.append((dataset, name, revision))
        assert repo_type == "dataset"
        if not self.reachable:
            raise LocalEntryNotFoundError("no network")
        if name not in self.cards:
            raise EntryNotFoundError(name)
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / name).write_text(self.cards[name])
        return str(self._folder / name)

    def info(self, dataset: str, *, revision: str | None) -> Any:
        self.asked.append((dataset, "info", revision))
        return SimpleNamespace(sha=COMMIT)

    def build(self, source: str, config: str | None, revision: str | None) -> Any:
        self.asked.append((source, config, revision))
        self.offline_at_build = datasets.config.HF_HUB_OFFLINE
        if self.offline_at_build:
            raise ConnectionError("it was never prepared")
        return SimpleNamespace(
            base_path=self.built_at,
            config=SimpleNamespace(data_files={"test": self.files}),
            info=SimpleNamespace(splits=None),
            _cache_dir_root=str(self._folder),
            download_and_prepare=lambda: self.asked.append("rows"),
            as_dataset=lambda split: datasets.Dataset.from_dict({"question": [split]}),
        )


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    made = Hub(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(HfApi, "hf_hub_download", made.download)
    monkeypatch.setattr(HfApi, "dataset_info", made.info)
    monkeypatch.setattr(datasets, "load_dataset_builder", made.build)
    yield made
    assert datasets.config.HF_HUB_OFFLINE is False  # it is as it was, whatever happened


def test_the_card_is_asked_for_first_and_then_what_the_yaml_names(hub: Hub) -> None:
    hub.cards["README.md"] = CARD.format("data/*")
    assert HubTable("owner/name", "test", "first", "v2").load()[0] == {"question": "test"}
    assert hub.asked == [
        ("owner/name", "README.md", "v2"),
        ("owner/name", ".huggingface.yaml", COMMIT),
        ("hf://datasets/owner/name", "first", COMMIT),
        "rows",
    ]


def test_a_revision_that_is_not_there_is_not_another_one_that_was_prepared(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(self: Any, *names: str, **where: Any) -> str:
        response: Any = SimpleNamespace(headers={}, request=None)
        raise RevisionNotFoundError("no revision v2x", response=response)

    monkeypatch.setattr(HfApi, "hf_hub_download", missing)
    with pytest.raises(UserError, match=r"hub: owner/name is not there .*v2x.* correct its id or revision"):
        HubTable("owner/name", "test", None, "v2x").load()
    assert hub.asked == []


def test_a_dataset_without_a_card_is_read_at_the_commit_that_had_none(hub: Hub) -> None:
    assert len(HubTable("owner/name", "test").load()) == 1
    assert ("owner/name", ".huggingface.yaml", COMMIT) in hub.asked and hub.asked[-1] == "rows"
    hub.built_at = hub.built_at.replace(COMMIT, "f" * 40)
    with pytest.raises(
        UserError, match=r"hub: owner/name must be read as its card was checked, .* try again"
    ):
        HubTable("owner/name", "test").load()
    assert hub.asked.count("rows") == 1


@pytest.mark.parametrize("card", ["README.md", ".huggingface.yaml"])
@pytest.mark.parametrize("place", ["http://169.254.169.254/x.jsonl", "/etc/*", "hf://datasets/other/x/*"])
def test_a_card_is_refused_before_anybody_asks_what_it_names(hub: Hub, card: str, place: str) -> None:
    text = CARD.format(place)
    hub.cards[card] = text if card.endswith(".md") else text.replace("---\n", "")
    with pytest.raises(UserError, match="must bring its rows itself, its card names") as caught:
        HubTable("owner/name", "test").load()
    assert place in str(caught.value)
    assert not [asked for asked in hub.asked if asked[0].startswith("hf://")]


def test_where_no_card_can_be_had_only_what_was_prepared_before_is_taken(hub: Hub) -> None:
    hub.reachable = False
    with pytest.raises(UserError, match=r"hub: owner/name cannot be loaded \(no network\).*data\.root"):
        HubTable("owner/name", "test").load()
    assert hub.offline_at_build


def test_a_mistake_in_the_yaml_is_not_taken_for_the_network(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepared(source: str, config: str | None, revision: str | None) -> Any:
        raise ValueError(f"no config {config}")

    hub.reachable = False
    monkeypatch.setattr(datasets, "load_dataset_builder", prepared)
    monkeypatch.setattr(datasets, "get_dataset_config_names", lambda source, revision: ["first", "second"])
    with pytest.raises(UserError, match="config: owner/name must have one of first, second, got 'third'"):
        HubTable("owner/name", "test", "third").load()


def test_a_folder_of_the_same_name_is_not_taken_for_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "owner" / "name").mkdir(parents=True)
    (tmp_path / "owner" / "name" / "test.jsonl").write_text('{"question": "q"}\n')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="hub: owner/name cannot be loaded"):
        HubTable("owner/name", "test").load()


@pytest.mark.parametrize(
    "place",
    [
        "hf://datasets/other/name@{commit}/data/test.parquet",
        "hf://datasets/owner/name-private@{commit}/data/test.parquet",
        "hf://datasets/owner/name@main/data/test.parquet",
        "hf://datasets/owner/name/data/test.parquet",
        "hf://owner/name@{commit}/data/test.parquet",
        "hf://datasets/owner/name@{commit}",
        "hf://datasets/owner/name@{commit}/../other@main/test.parquet",
        "hf://datasets/owner/name@{commit}/a/%2e%2e/%2E%2E/test.parquet",
        "hf://datasets/owner/name@{commit}/a\\..\\test.parquet",
        "zip://a.csv::hf://datasets/other/name@{commit}/data/test.zip",
        "https://huggingface.co/datasets/owner/name/resolve/{commit}/test.parquet",
        "http://169.254.169.254/test.parquet",
        "/etc/hostname",
    ],
)
def test_a_file_of_the_hub_lies_in_the_datasets_own_repository_and_revision(hub: Hub, place: str) -> None:
    hub.files.append(place.format(commit=COMMIT))
    with pytest.raises(UserError, match="must bring its rows itself"):
        HubTable("owner/name", "test").load()
    assert "rows" not in hub.asked


@pytest.mark.parametrize("place", [f"{OWN}/a..b/te%20st.parquet", f"zip://../a.csv::{OWN}/data/test.zip"])
def test_a_file_of_its_own_is_taken(hub: Hub, place: str) -> None:
    hub.files.append(place)
    assert len(HubTable("owner/name", "test").load()) == 1


@pytest.mark.parametrize(
    "place", [f"{OWN}/test.parquet", "https://example.org/test.parquet", "/etc/hostname"]
)
def test_a_copys_file_lies_in_the_copy(tmp_path: Path, place: str) -> None:
    files = {"test": [str(tmp_path / "data" / "test.parquet")]}
    builder = SimpleNamespace(base_path=str(tmp_path), config=SimpleNamespace(data_files=files))
    check_files(builder, "owner/name")
    files["test"].append(place)
    with pytest.raises(UserError, match="must bring its rows itself"):
        check_files(builder, "owner/name")


@pytest.mark.parametrize("revision", ["f" * 40, "v2"])
def test_without_a_network_another_revision_is_not_taken_for_the_one_asked_for(
    hub: Hub, revision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refs = tmp_path / "datasets--owner--name" / "refs"
    refs.mkdir(parents=True)
    (refs / "v2").write_text("f" * 40)
    (refs / "v1").write_text(COMMIT)
    monkeypatch.setattr(load, "HF_HUB_CACHE", str(tmp_path))
    prepared = SimpleNamespace(hash=COMMIT)
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda *about, **where: prepared)
    hub.reachable = False
    with pytest.raises(
        UserError, match=r"at revision .*\(ffffffffffff\), and was prepared here at 0123456789ab"
    ):
        load._of_hub("owner/name", None, revision, "owner/name")
    for good in ("v1", COMMIT, None, "never-fetched"):
        assert load._of_hub("owner/name", None, good, "owner/name") is prepared
