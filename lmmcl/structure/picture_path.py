"""The way of a picture into the language model: run once, and given again where nothing on it has changed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lmmcl.structure.anatomy import Anatomy
from lmmcl.structure.landmarks import inside, prefixes
from lmmcl.structure.picture_recording import FEATURES, Point, Recording, copied
from lmmcl.weights import WRAPPED


class PicturePath:
    """Vision tower and projector of a model as functions whose results can be recorded and given again.

    The outermost function in which nothing changes is taken: ``get_image_features``, which most families have and
    which ends in the language model's width, or the forward of a vision tower, where the projector trains or the family
    has no such method. Nothing around the root is called: the model's own forward runs, and is answered.

    Args:
        model: an image-text-to-text model of transformers, with its adapters.
        anatomy: of the model as it was loaded.
    """

    def __init__(self, model: nn.Module, anatomy: Anatomy) -> None:
        self._model = model
        self._anatomy = anatomy
        self._owners = {name.rpartition(".")[0] for name in anatomy.numel if self._of_language(name)}
        owned: list[tuple[str, nn.Module, str]] = []
        seen: set[int] = set()  # a tied head is the embedding
        for path, module in model.named_modules():
            for name, parameter in module.named_parameters(recurse=False):
                if id(parameter) not in seen:
                    owned.append((_name(path, name), module, name))
                seen.add(id(parameter))
        self._places = {name: (module, own) for name, module, own in owned if not self._of_words(name)}
        self._words = {
            name: (module, own)
            for name, module, own in owned
            if name not in self._places and anatomy.layer_of(name) is None
        }
        self._towers = _towers(model, anatomy)
        self._methods = [
            path for path, module in model.named_modules() if callable(getattr(module, FEATURES, None))
            and not any(inside(path, tower) for tower in self._towers)
        ]  # fmt: skip
        self._trains_otherwise: bool | None = None

    def parameters(self, words: Collection[str] = ()) -> dict[str, nn.Parameter]:
        """What stands on the path or beside it: all that is no part of the language model; sharded as the model is.

        Args:
            words: names of `Recording.words` that belong to it, too.
        """
        places = {**self._places, **{name: self._words[name] for name in sorted(words)}}
        return {name: getattr(module, own) for name, (module, own) in places.items()}

    @property
    def adapted(self) -> bool:
        """Whether there are adapters on the path, whose state may be more than parameters and buffers."""
        return any(name not in self._anatomy.numel for name in self._places)

    @property
    def buffers(self) -> dict[str, Tensor]:
        """Buffers of the same modules: statistics of a batch norm, frequencies of positions."""
        layers = self._anatomy.depth
        return {
            name: buffer
            for name, buffer in self._model.named_buffers()
            if not any(prefix in layers for prefix in prefixes(name))
        }

    def points(self, changing: Collection[str]) -> list[Point]:
        """The outermost points at which none of the named parameters counts; none where the path cannot be shared.

        Args:
            changing: names of parameters that train, or have other values now and then.
        """
        odd = [name for name in changing if name in self._places]
        if not odd:
            return [
                *(Point(path, FEATURES) for path in self._methods),
                *(Point(path, "forward") for path in self._towers),
            ]
        return [
            Point(path, "forward") for path in self._towers if not any(inside(name, path) for name in odd)
        ]

    def training(self) -> set[str]:
        """Names of the parameters that train now: of the path, and of the language model beside its layers."""
        places = {**self._places, **self._words}
        return {name for name, (module, own) in places.items() if getattr(module, own).requires_grad}

    def trains_otherwise(self) -> bool:
        """Whether the path may give something else in train mode: dropout, a batch norm's statistics."""
        if self._trains_otherwise is None:
            apart = [*self._anatomy.depth, *self._languages()]
            self._trains_otherwise = any(
                _is_random(module)
                for path, module in self._model.named_modules()
                if not any(inside(path, root) for root in apart)
            )
        return self._trains_otherwise

    @contextmanager
    def recording(self, points: Sequence[Point]) -> Iterator[Recording]:
        """Records what the points return while it is open; of points inside another one, the outer one's."""
        recording = Recording()
        depth = [0]

        def watch(point: Point, original: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **named: Any) -> Any:
                depth[0] += 1
                try:
                    output = original(*arguments, **named)
                finally:
                    depth[0] -= 1
                if not depth[0]:
                    recording.add(point, output)
                return output

            return call

        def used(module: nn.Module, arguments: Any) -> None:
            if depth[0]:
                recording.words.update(name for name, (owner, _) in self._words.items() if owner is module)

        with ExitStack() as stack:
            for module in {module for module, _ in self._words.values()}:
                stack.callback(module.register_forward_pre_hook(used).remove)
            stack.enter_context(self.replaced(points, watch))
            yield recording

    @contextmanager
    def replaying(self, recording: Recording, strict: bool = False) -> Iterator[None]:
        """Gives at each call of a point what was recorded there, over and over, in the order of the recording.

        Args:
            recording: of a forward over the same pictures.
            strict: the pixels are no longer there: a call that was not recorded is an error, and is not made.

        Raises:
            RuntimeError: the model calls other points than it did.
        """
        turn = [0]
        calls = recording.calls

        def answer(point: Point, original: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **named: Any) -> Any:
                recorded, output = calls[turn[0] % len(calls)]
                if recorded != point:
                    if strict:
                        raise RuntimeError(f"the model calls {point}, and {recorded} was recorded")
                    return original(*arguments, **named)
                turn[0] += 1
                return copied(output)

            return call

        with self.replaced(list(dict.fromkeys(point for point, _ in calls)), answer):
            yield

    @contextmanager
    def replaced(
        self, points: Sequence[Point], other: Callable[[Point, Callable[..., Any]], Callable[..., Any]]
    ) -> Iterator[None]:
        """Puts into the place of each point what ``other`` makes of it and of its function, while it is open."""
        with ExitStack() as stack:
            for point in points:
                module = self._model.get_submodule(point.path)
                own = vars(module).get(point.method)
                original = getattr(module, point.method)
                # As attributes of the instance; transformers asks for the signature of what it calls.
                object.__setattr__(module, point.method, wraps(original)(other(point, original)))
                stack.callback(_restore, module, point.method, own)
            yield

    def _of_language(self, name: str) -> bool:
        return self._anatomy.group_of(name).startswith("llm.")

    def _of_words(self, name: str) -> bool:
        """Whether a parameter is the language model's; of an adapter's own, by the layer around it."""
        if name in self._anatomy.numel:
            return self._of_language(name)
        if self._anatomy.layer_of(name) is not None:
            return True
        return any(prefix in self._owners for prefix in prefixes(name) if prefix)

    def _languages(self) -> list[str]:
        """Modules that hold decoder layers and nothing of the path."""
        around = {path.rpartition(".")[0].rpartition(".")[0] for path in self._anatomy.decoder_layers}
        return [path for path in around if path and not any(inside(name, path) for name in self._places)]


def _name(path: str, name: str) -> str:
    """A parameter's name, as `lmmcl.weights.parameters_of` gives it."""
    return (f"{path}.{name}" if path else name).replace(f".{WRAPPED}.", ".")


def _restore(module: nn.Module, method: str, own: Any) -> None:
    if own is None:
        object.__delattr__(module, method)
    else:
        object.__setattr__(module, method, own)


def _towers(model: nn.Module, anatomy: Anatomy) -> list[str]:
    """Paths of the outermost modules that hold vision blocks and nothing of the language model."""
    words = [name for name in anatomy.numel if anatomy.group_of(name).startswith("llm.")]
    found: list[str] = []
    modules = dict(model.named_modules())
    for block in anatomy.vision_blocks:
        around = [path for path in prefixes(block) if path and not any(inside(name, path) for name in words)]
        # A list of blocks has no forward; what stands around the tower may hold the projector beside it.
        beside = [path for path in around if _is_whole(modules[path])]
        if beside and not any(inside(beside[-1], other) for other in found):
            found.append(beside[-1])
    return found


def _is_whole(module: nn.Module) -> bool:
    """Whether a module is a model of its own."""
    return hasattr(module, "config") and not isinstance(module, nn.ModuleList)


def _is_random(module: nn.Module) -> bool:
    """Whether a module's forward may differ between train and eval mode, by what it and its config say."""
    if isinstance(module, _BatchNorm):
        return True
    own = {**vars(module), **_plain(getattr(module, "config", None))}
    if isinstance(module, nn.modules.dropout._DropoutNd):
        own["dropout"] = module.p
    return any(
        isinstance(value, float | int) and value > 0
        for name, value in own.items()
        if "drop" in name.lower() or "jitter" in name.lower()
    )


def _plain(config: Any) -> dict[str, Any]:
    return {} if config is None else dict(vars(config))
