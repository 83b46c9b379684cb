"""The normal form keeps what an answer says and drops how."""

from lmmcl.scorers.normalise import normalise, without_lead_in


def test_lead_ins_are_dropped() -> None:
    assert without_lead_in("The correct answer is: red") == "red"
    assert without_lead_in("answered") == "answered"
    assert without_lead_in("The answer") == "The answer"


def test_the_normal_form_is_its_own_normal_form() -> None:
    for text in ("The Red, car!", "two 3.5", "A", "The answer is a t-shirt", "naïve 12%"):
        assert normalise(normalise(text)) == normalise(text)
