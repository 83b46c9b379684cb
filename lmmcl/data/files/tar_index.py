"""Where the samples of WebDataset shards lie: found once by their tar headers, then read by offset."""

import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lmmcl.data.files.cache_folder import cache_folder, keep
from lmmcl.data.files.file_stamp import file_stamp
from lmmcl.errors import UserError

_NAME = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]+)")
"""As in webdataset: the key ends at the first dot of the base name, the extension is the rest."""
TEXTS = ("txt", "text", "caption", "transcript", "cls", "cls2", "class", "count", "index", "inx")
"""Extensions of texts and of numbers written as texts, as webdataset knows them."""
_VERSION = "2"


@dataclass(frozen=True)
class TarIndex:
    """The samples of one shard.

    Args:
        keys: (samples) their names as UTF-8, in the order of the shard.
        first: (samples + 1) position of each sample's first member; the last entry is the number of members.
        kinds: the extensions that occur, in small letters.
        kind: (members) position of each one's extension in ``kinds``.
        offsets: (members) where each member's bytes start in the shard.
        sizes: (members) bytes of each.
        texts: (32) a SHA-256 of the contents of all ``.json`` and `TEXTS` members, in order.
    """

    keys: NDArray[np.bytes_]
    first: NDArray[np.int64]
    kinds: NDArray[np.str_]
    kind: NDArray[np.uint16]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    texts: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.keys)

    def key(self, sample: int) -> str:
        """The name of a sample."""
        return bytes(self.keys[sample]).decode("utf-8", "surrogateescape")

    def members(self, sample: int) -> Iterator[tuple[str, int, int]]:
        """Extension, offset and size of every member of a sample."""
        for member in range(int(self.first[sample]), int(self.first[sample + 1])):
            yield str(self.kinds[self.kind[member]]), int(self.offsets[member]), int(self.sizes[member])

    def digest(self) -> bytes:
        """A SHA-256 of names, sizes and texts; pictures count by their sizes."""
        digest = sha256("\n".join(self.kinds.tolist()).encode())
        for values in (self.keys, self.first, self.kind, self.sizes, self.texts):
            digest.update(values.tobytes())
        return digest.digest()


def tar_index(shard: Path) -> TarIndex:
    """The index of a shard, kept in the cache folder under its path and what tells that it changed.

    Args:
        shard: an uncompressed tar file; consecutive members with one key are one sample. Links, folders and names
            without an extension are left alone. Nothing is ever unpacked.

    Raises:
        UserError: it is no tar file, is compressed or truncated, or a key stands in it twice.
    """
    name = f"{_VERSION} {shard.resolve()} {file_stamp(shard)}"
    kept = cache_folder("webdataset") / f"{sha256(name.encode()).hexdigest()}.npz"
    if kept.is_file():
        with np.load(kept) as arrays:
            return TarIndex(**{field: arrays[field] for field in TarIndex.__dataclass_fields__})
    index = _scan(shard, shard.stat().st_size)
    data = BytesIO()
    np.savez(data, **vars(index))
    keep(kept, data.getvalue())
    return index


def _scan(shard: Path, length: int) -> TarIndex:
    keys: list[bytes] = []
    first: list[int] = []
    kinds: dict[str, int] = {}
    members: list[tuple[int, int, int]] = []
    for name, offset, size in _members(shard, length):
        parts = _NAME.fullmatch(name)
        if parts is None:
            continue
        key = parts[1].encode("utf-8", "surrogateescape")
        if not keys or keys[-1] != key:
            keys.append(key)
            first.append(len(members))
        members.append((kinds.setdefault(parts[2].lower(), len(kinds)), offset, size))
    if not keys:
        raise UserError(
            f"{shard}: must hold samples (key.json, key.jpg, ...), there is none; correct the path."
        )
    if len(set(keys)) < len(keys):
        twice = Counter(keys).most_common(1)[0][0].decode("utf-8", "replace")
        raise UserError(
            f"{shard}: the members of a sample must follow each other, {twice!r} stands in two places; write the "
            "shard again, sorted by name."
        )
    kind, offsets, sizes = np.array(members, np.int64).T
    return TarIndex(
        np.array(keys),
        np.array([*first, len(members)], np.int64),
        np.array(list(kinds)),
        kind.astype(np.uint16),
        offsets,
        sizes,
        _texts(shard, list(kinds), members),
    )


def _texts(shard: Path, kinds: list[str], members: list[tuple[int, int, int]]) -> NDArray[np.uint8]:
    """What `TarIndex` calls ``texts``, of members given by kind, offset and size."""
    read = {number for number, kind in enumerate(kinds) if kind.rpartition(".")[2] in ("json", *TEXTS)}
    digest = sha256()
    with shard.open("rb") as stream:
        for kind, offset, size in members:
            if kind in read:
                stream.seek(offset)
                digest.update(stream.read(size))
    return np.frombuffer(digest.digest(), np.uint8)


def _members(shard: Path, length: int) -> list[tuple[str, int, int]]:
    """Name, offset and size of every regular file in a shard."""
    members = []
    end = 0
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                if member.offset_data + member.size > length:
                    raise tarfile.ReadError(f"{member.name} lacks its end")
                if member.size < 0 or archive.offset <= end:  # it would be read for ever
                    raise tarfile.ReadError(f"{member.name} leads back to where the shard was read already")
                end = archive.offset
                if member.isreg() and not member.issparse():
                    members.append((member.name, member.offset_data, member.size))
    except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
        raise UserError(_broken(shard, end, length, error)) from error
    # tarfile takes the end of a file for the end of its members; only a block of zeros is.
    with shard.open("rb") as stream:
        stream.seek(end)
        if stream.read(512) != bytes(512):
            raise UserError(_broken(shard, end, length, "no end mark"))
    return members


def _broken(shard: Path, end: int, length: int, error: object) -> str:
    with shard.open("rb") as stream:
        head = stream.read(512)
    if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")):
        return f"{shard}: a shard must be an uncompressed tar file, which can be read at any place; unpack it once."
    if end == 0 and head[257:262] != b"ustar":
        return f"{shard}: is no tar file ({error}); correct the path or write it again."
    return f"{shard}: is truncated behind byte {end}, of {length} it has ({error}); copy or write it again."
