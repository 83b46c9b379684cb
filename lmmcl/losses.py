"""Pure losses of answer tokens and of weights, in fp32."""

from torch import Tensor
from torch.nn import functional


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Negative log-likelihood of each label, in nats.

    Args:
        logits: (tokens, vocabulary), any floating dtype.
        labels: (tokens,) token ids.

    Returns:
        (tokens,) in fp32.
    """
    return functional.cross_entropy(logits.float(), labels, reduction="none")


def distillation(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """τ² KL(teacher ‖ student) of each token, in nats (Hinton et al., 2015, arXiv 1503.02531, section 2).

    The factor τ² keeps the size of the gradient independent of the temperature.

    Args:
        student: logits (tokens, vocabulary).
        teacher: logits (tokens, vocabulary).
        temperature: τ, above 0.

    Returns:
        (tokens,) in fp32; exactly 0 where both are equal, and its gradient 0 up to rounding.
    """
    log_student = functional.log_softmax(student.float() / temperature, dim=-1)
    log_teacher = functional.log_softmax(teacher.float() / temperature, dim=-1)
    divergence = functional.kl_div(log_student, log_teacher, reduction="none", log_target=True)
    return divergence.sum(dim=-1) * temperature**2


def consolidation(values: Tensor, anchor: Tensor, importance: Tensor) -> Tensor:
    """Σ F (θ − θ*)², the pull of EWC, MAS and SI towards old values.

    Args:
        values: θ.
        anchor: θ*, of the same shape.
        importance: F, of the same shape.

    Returns:
        a scalar.
    """
    return (importance * (values - anchor).square()).sum()
