"""What error messages are made of."""

import pytest

from lora_tune.errors import did_you_mean, first_line


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [("rnak", "; did you mean lora.rank?"), ("xyz", ""), ("alph", "; did you mean lora.alpha?")],
)
def test_the_closest_name_is_suggested(name, suggestion):
    assert did_you_mean(name, ["rank", "alpha"], prefix="lora.") == suggestion


def test_the_first_line_of_a_librarys_error():
    assert first_line(ValueError("\n one \ntwo")) == "one "
    assert first_line(KeyError()) == "KeyError"
