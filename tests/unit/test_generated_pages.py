"""What is generated from the code is up to date: `make docs`."""

from docs.generate_architecture_page import PAGE, page


def test_the_architecture_page_is_what_its_generator_writes():
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make docs`"
