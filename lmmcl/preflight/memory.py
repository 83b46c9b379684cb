"""What a run needs of each GPU's memory, by the strategy that is named."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from lmmcl.building.frozen_linear import BLOCK
from lmmcl.mitigation import Mitigation, StageCallback, copied_elements
from lmmcl.optim.trained_bytes import PLAIN, TrainedBytes
from lmmcl.preflight.activations import Shape, generation_bytes, training_bytes
from lmmcl.structure.anatomy import Anatomy
from lmmcl.structure.landmarks import prefixes
from lmmcl.structure.recomputed import PARTS, parts_of
from lmmcl.structure.widths import Widths


@dataclass(frozen=True)
class Place:
    """Where a run takes place.

    Args:
        strategy: ``single``, ``ddp`` or ``fsdp2``.
        world: processes, one on each device.
        tensor_parallel: processes that take the same rows and cut the decoder's projections among themselves.
        bf16: forwards compute in bf16 (``bf16-mixed``), else in fp32.
        eager: the attention writes its scores out.
        checkpointing: ``model.activation_checkpointing``.
        callbacks: of the run that hear about stages; each says what it keeps (`StageCallback.copies`).
        device: bytes of one device's memory; None: not known.
        each: bytes of a trained parameter, by ``model.train_dtype`` and ``model.optimizer``.
        frozen_bits: ``model.frozen_bits``.
    """

    strategy: str = "single"
    world: int = 1
    tensor_parallel: int = 1
    bf16: bool = True
    eager: bool = False
    checkpointing: bool | Collection[str] = False
    callbacks: Sequence[StageCallback] = ()
    device: int | None = None
    each: TrainedBytes = PLAIN
    frozen_bits: int | None = None

    @property
    def shares(self) -> int:
        """Into how many parts the rows are dealt."""
        return self.world // self.tensor_parallel

    @property
    def mitigations(self) -> list[Mitigation]:
        """Those that act against forgetting, in the order listed."""
        return [callback for callback in self.callbacks if isinstance(callback, Mitigation)]


@dataclass(frozen=True)
class Load:
    """The largest batches of a run.

    Args:
        samples: of a training micro-batch.
        length: tokens of the longest training sample.
        pixels: numbers that one sample's pictures put into the vision tower.
        answers: tokens of the longest answer.
        prompts: samples of a batch of generation.
        prompt: tokens of the longest prompt with its answer.
    """

    samples: int
    length: int
    pixels: int
    answers: int
    prompts: int
    prompt: int


@dataclass(frozen=True)
class Need:
    """Bytes on each device.

    Args:
        weights: masters of all that is ever trained, and frozen tensors.
        copies: bf16 copies of masters that autocast keeps, or what FSDP2 gathers at once.
        gradients: of the task that trains most, DDP's buckets included.
        optimizer: AdamW's two moments.
        kept: what callbacks keep.
        activations: as the run is set.
        checkpointed: the same with activation checkpointing.
        generation: weights gathered for it, keys and values, one layer at work.
    """

    weights: int
    copies: int
    gradients: int
    optimizer: int
    kept: int
    activations: int
    checkpointed: int
    generation: int

    @property
    def state(self) -> int:
        """What training needs without a single sample; exact."""
        return self.weights + self.gradients + self.optimizer + self.kept

    @property
    def training(self) -> int:
        """The peak of a training step."""
        return self.state + self.copies + self.activations

    @property
    def evaluation(self) -> int:
        """The peak of generation; gradients and optimizer are gone by then."""
        return self.weights + self.kept + self.generation


def need_of(
    anatomy: Anatomy,
    shape: Shape | None,
    trained: Sequence[Mapping[str, str]],
    frozen_bytes: int,
    place: Place,
    load: Load | None,
    widths: Widths | None = None,
) -> Need:
    """Bytes on each device: a trained parameter's (`TrainedBytes`: 16 as a rule), else the checkpoint's size.

    On FSDP2 all of these are shared out over the processes; beside them stand the root unit and two layers, gathered.

    Args:
        anatomy: of the model.
        shape: its widths; None: nothing is known of activations.
        trained: what each task trains, in order.
        frozen_bytes: of a frozen parameter: 2 for a bf16 checkpoint; under 32-true all take 4.
        place: where the run takes place.
        load: its largest batches; None: no activations.
        widths: of the model; None: of what callbacks keep, copies of what trains alone are counted.
    """
    numel = anatomy.numel
    ever = {name for names in trained for name in names}
    most = max((sum(numel[name] for name in names) for names in trained), default=0)
    sharded = place.strategy == "fsdp2" and place.world > 1
    share = place.world if sharded else 1
    of_frozen = frozen_bytes if place.bf16 else 4
    sizes = {n: count * (place.each.weight if n in ever else of_frozen) for n, count in numel.items()}
    if bits := place.frozen_bits:
        layers = {
            n for n in numel if n not in ever and anatomy.group_of(n).startswith(("llm.attn.", "llm.mlp."))
        }
        sizes |= {n: numel[n] * (bits * BLOCK // 8 + 4) // BLOCK for n in layers}
    held = _on_each(anatomy, place, sizes)

    def most_of(size: float) -> int:
        """Of so many bytes a parameter, what one process holds in the task that trains most."""
        tasks = ({name: round(size * numel[name]) for name in names} for names in trained)
        return max((_on_each(anatomy, place, task) for task in tasks), default=0)

    each = 2 if place.bf16 else 4
    gathered = _gathered(anatomy, each, place) if sharded else 0
    cast = 2 * most if place.bf16 and share == 1 and place.each.weight == 4 else 0
    kept, recomputed = (
        _activations(anatomy, shape, trained, place, load, each, parts)
        for parts in (parts_of(place.checkpointing), PARTS)
    )
    generation = (
        0 if shape is None or load is None else generation_bytes(shape, load.prompts * load.prompt, each)
    )
    states = 0 if widths is None else sum(one.state_bytes(widths) for one in place.callbacks)
    whole = each * _cut(anatomy, place, numel) if sharded else cast
    return Need(
        weights=held,
        copies=gathered or cast,
        gradients=most_of((2 if place.strategy == "ddp" else 1) * place.each.gradient),
        optimizer=most_of(place.each.optimizer),
        kept=place.each.weight * copied_elements(place.callbacks, numel, trained) // share + states,
        activations=kept,
        checkpointed=recomputed,
        generation=whole + generation,
    )


def _is_cut(anatomy: Anatomy, name: str, place: Place) -> bool:
    """Whether a tensor-parallel group cuts it: the projections of the decoder's layers."""
    return place.tensor_parallel > 1 and anatomy.group_of(name).startswith(("llm.attn.", "llm.mlp."))


def _cut(anatomy: Anatomy, place: Place, counts: Mapping[str, int]) -> int:
    """Of tensors that are gathered, what one process of a tensor-parallel group holds."""
    cut = sum(count for name, count in counts.items() if _is_cut(anatomy, name, place))
    return sum(counts.values()) - cut + cut // place.tensor_parallel


def _on_each(anatomy: Anatomy, place: Place, counts: Mapping[str, int]) -> int:
    """Of tensors as they are held between two forwards, what one process holds."""
    return _cut(anatomy, place, counts) // (place.shares if place.strategy == "fsdp2" else 1)


def _gathered(anatomy: Anatomy, each: int, place: Place) -> int:
    """The root unit, which stays gathered, and two layers: one at work, one on its way."""
    units = dict.fromkeys((*anatomy.decoder_layers, *anatomy.vision_blocks), 0)
    root = 0
    for name, count in anatomy.numel.items():
        unit = next((prefix for prefix in prefixes(name) if prefix in units), None)
        if unit is None:
            root += count
        else:
            units[unit] += count // place.tensor_parallel if _is_cut(anatomy, name, place) else count
    return each * (root + 2 * max(units.values(), default=0))


def _activations(
    anatomy: Anatomy,
    shape: Shape | None,
    trained: Sequence[Mapping[str, str]],
    place: Place,
    load: Load | None,
    each: int,
    checkpointing: Collection[str],
) -> int:
    """Of the task that keeps most."""
    if shape is None or load is None:
        return 0
    return max(
        (
            training_bytes(
                shape,
                set(names.values()),
                first=_first(anatomy, names),
                tokens=load.samples * load.length,
                length=load.length,
                pixels=load.samples * load.pixels,
                answers=load.samples * load.answers,
                checkpointing=checkpointing,
                eager=place.eager,
                each=each,
            )
            for names in trained
        ),
        default=0,
    )


def _first(anatomy: Anatomy, names: Collection[str]) -> int:
    """Depth of the first decoder layer that keeps anything: all do where something before them trains."""
    depths = [anatomy.layer_of(name) for name in names]
    before = any(
        depth is None and anatomy.group_of(name) in ("vision", "projector", "llm.embed", "llm.embed+head")
        for name, depth in zip(names, depths, strict=True)
    )
    return (
        0
        if before
        else min((depth for depth in depths if depth is not None), default=1 + max(anatomy.depth.values()))
    )
