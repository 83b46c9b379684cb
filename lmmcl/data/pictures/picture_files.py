"""Which picture files there are, asked for by folder: one look per picture, cheap on a network's disk."""

import os
import stat


class PictureFiles:
    """Sizes of files, remembered.

    A folder is listed once, which tells what is missing and, on a network's disk, fetches what is asked of its files in
    one go; a file is asked for its size once.
    """

    def __init__(self) -> None:
        self._folders: dict[str, tuple[str, dict[str, int | None]]] = {}
        self._links: dict[str, str] = {}

    def size(self, path: str) -> int | None:
        """Bytes of a file; None: there is none."""
        folder, name = os.path.split(path)
        _, names = self._listed(folder)
        if name not in names:
            return None
        size = names[name]
        if size is None:
            found = os.lstat(path)
            if stat.S_ISLNK(found.st_mode):
                self._links[path] = os.path.realpath(path)
                found = os.stat(path) if os.path.exists(path) else found
            size = found.st_size if stat.S_ISREG(found.st_mode) else -1
            names[name] = size
        return None if size < 0 else size

    def real(self, path: str) -> str:
        """The path with its links followed: one name for one file."""
        self.size(path)
        folder, name = os.path.split(path)
        return self._links.get(path) or os.path.normpath(os.path.join(self._listed(folder)[0], name))

    def _listed(self, folder: str) -> tuple[str, dict[str, int | None]]:
        if folder not in self._folders:
            try:
                names: dict[str, int | None] = dict.fromkeys(os.listdir(folder or "."))
            except OSError:
                names = {}
            self._folders[folder] = os.path.realpath(folder), names
        return self._folders[folder]
