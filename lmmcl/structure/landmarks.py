"""Where the parts of a large multimodal model stand in its tree, found by what its modules say and hold."""

from __future__ import annotations

from collections.abc import Iterator
from re import Pattern

from torch import nn

from lmmcl.errors import UserError

__all__ = ["Landmarks", "inside", "prefixes"]

_PIXELS = {"pixel_values", "flattened_patches"}


class Landmarks:
    """Paths of the parts of one model.

    Attributes:
        modules: path to module, as in ``model.named_modules()``.
        embed: the token embeddings.
        head: the output embedding; None where there is none (an inner model, without its head).
        vision: the vision towers, outermost modules first in model order.
        language: the roots of the language model; several where its encoder stands apart from its decoder. A
            root may hold a vision tower, where the family nests it so.
        apart: whole models that neither read pictures nor write text: audio towers, picture generators.
        layers: path of a decoder layer to its depth, from 0.
    """

    def __init__(self, model: nn.Module, connects: Pattern[str]) -> None:
        """Find the landmarks of a model.

        Args:
            model: the model; its tensors are never touched.
            connects: matches the path of a module between the vision tower and the language model.

        Raises:
            UserError: the model names no token embeddings.
        """
        self.modules = dict(model.named_modules())
        self._paths = {id(module): path for path, module in self.modules.items()}
        decoder = _ask(model, "get_decoder")
        embed = self._path(_ask(model, "get_input_embeddings") or _ask(decoder, "get_input_embeddings"))
        if embed is None:
            raise UserError(
                f"model.path: a model must have token embeddings, and {type(model).__name__} names none "
                "(get_input_embeddings). Choose an image-text-to-text model."
            )
        self.embed: str = embed
        self.head = self._path(_ask(model, "get_output_embeddings") or _ask(decoder, "get_output_embeddings"))
        self.vision = self._find_vision(model)
        self.language = self._find_language(model, self._path(decoder))
        self.apart = self._find_apart(connects)
        self._roots = {*self.vision, *self.language, *self.apart}
        self.layers = self._find_layers()

    def root_of(self, name: str) -> str | None:
        """The nearest landmark (vision, language or apart) around a name."""
        return next((prefix for prefix in prefixes(name) if prefix in self._roots), None)

    def layer_of(self, name: str) -> str | None:
        """Path of the decoder layer around a name."""
        return next((prefix for prefix in prefixes(name) if prefix in self.layers), None)

    def blocks(self, root: str) -> Iterator[str]:
        """Paths of the blocks under a module, in model order."""
        for blocks in self._block_lists(root):
            for path in blocks:
                yield from self._unwrapped(path)

    def _path(self, module: nn.Module | None) -> str | None:
        return None if module is None else self._paths.get(id(module))

    def _holds_vision(self, path: str) -> bool:
        return any(inside(root, path) for root in self.vision)

    def _find_vision(self, model: nn.Module) -> list[str]:
        """What takes pixels: by its config, by its main input, or because the model says so."""
        configs = tuple(_sub_configs(getattr(model, "config", None), "vision"))
        found = {self._path(_ask(model, "get_encoder", modality="image"))}
        for path, module in self.modules.items():
            modalities = getattr(module, "input_modalities", None) or ()
            seen = {modalities} if isinstance(modalities, str) else set(modalities)
            takes_pixels = getattr(module, "main_input_name", None) in _PIXELS and seen <= {"image", "video"}
            if takes_pixels or (configs and isinstance(getattr(module, "config", None), configs)):
                found.add(path)
        return self._outermost(path for path in found if path and not inside(self.embed, path))

    def _find_language(self, model: nn.Module, decoder: str | None) -> list[str]:
        """What holds the decoder, the token embeddings and, if there is one, the text encoder."""
        owner = next((path for path in prefixes(self.embed) if _is_pretrained(self.modules[path])), None)
        starts = {decoder, owner}
        if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
            starts.add(self._path(_ask(model, "get_encoder")))
        paths = {path for path in starts if path is not None and path not in self.vision}
        roots = set()
        for path in paths:
            if not self._holds_vision(path):
                around = [up for up in prefixes(path) if not self._holds_vision(up)]
                roots.add([path, *filter(lambda up: _is_pretrained(self.modules[up]), around)][-1])
        return self._outermost(roots or paths - {""}) or [""]

    def _find_apart(self, connects: Pattern[str]) -> list[str]:
        taken = [*self.vision, *self.language]
        return self._outermost(
            path
            for path, module in self.modules.items()
            if path
            and _is_pretrained(module)
            and not any(inside(root, path) or inside(path, root) for root in taken)
            and not inside(self.embed, path)
            and not connects.search(path)
        )

    def _find_layers(self) -> dict[str, int]:
        """Decoder layers with their depths; lists with one parent are woven together, others follow on."""
        lists: dict[str, list[list[str]]] = {}
        for root in self.language:
            for blocks in self._block_lists(root):
                if self.root_of(blocks[0]) == root:
                    parent = blocks[0].rpartition(".")[0].rpartition(".")[0]
                    lists.setdefault(parent, []).append(blocks)
        depth: dict[str, int] = {}
        start = 0
        for beside in lists.values():
            longest = max(map(len, beside))
            for blocks in beside:
                depth |= {path: start + i * longest // len(blocks) for i, path in enumerate(blocks)}
            start += longest
        return depth

    def _block_lists(self, root: str) -> Iterator[list[str]]:
        """The blocks of every outermost list of blocks under a module."""
        seen: list[str] = []
        for path, module in self.modules.items():
            is_list = isinstance(module, nn.ModuleList) and inside(path, root)
            if is_list and not any(inside(path, outer) for outer in seen):
                seen.append(path)
                children = module.named_children()
                if blocks := [f"{path}.{name}" for name, child in children if _is_block(child)]:
                    yield blocks

    def _unwrapped(self, path: str) -> Iterator[str]:
        """A list of lists has no forward of its own and cannot be a unit: take what it holds."""
        if not isinstance(self.modules[path], nn.ModuleList):
            yield path
            return
        for name, child in self.modules[path].named_children():
            if _is_block(child):
                yield from self._unwrapped(f"{path}.{name}")

    def _outermost(self, paths: Iterator[str] | set[str]) -> list[str]:
        found = set(paths)
        return [
            path
            for path in self.modules
            if path in found and not any(other != path and inside(path, other) for other in found)
        ]


def prefixes(name: str) -> Iterator[str]:
    """``a.b`` gives ``a.b``, ``a`` and the empty path of the model itself."""
    while name:
        yield name
        name = name.rpartition(".")[0]
    yield ""


def inside(path: str, root: str) -> bool:
    """Whether a path is a root or lies below it."""
    return not root or path == root or path.startswith(f"{root}.")


def _ask(module: nn.Module | None, question: str, **how: str) -> nn.Module | None:
    """What a model answers about itself, or None where it cannot say."""
    try:
        answer = getattr(module, question)(**how)
    except (AttributeError, NotImplementedError, TypeError):
        return None
    return answer if isinstance(answer, nn.Module) else None


def _sub_configs(config: object, word: str) -> Iterator[type]:
    """Classes of all sub-configs, at any depth, whose key contains a word."""
    for key in getattr(config, "sub_configs", None) or {}:
        sub = getattr(config, key, None)
        if sub is not None and word in key:
            yield type(sub)
        yield from _sub_configs(sub, word)


def _is_pretrained(module: nn.Module) -> bool:
    return hasattr(module, "main_input_name") and hasattr(module, "config")


def _is_block(module: nn.Module) -> bool:
    return sum(parameter.ndim > 1 for parameter in module.parameters()) > 1
