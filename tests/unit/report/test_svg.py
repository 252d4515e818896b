"""Plots for a page: readable without JavaScript, in its colors, and the same in every run."""

from lora_tune.report.svg import INK, LORA, draw_svg, shorten


def draw(axes):
    axes.plot([0, 1], [1, 0], color=LORA)
    axes.set_title("5 < 6 & $x")


def test_a_plot_uses_the_colors_of_the_page_and_is_reproducible():
    svg = draw_svg(draw, 'Loss by "epoch"')
    assert svg.startswith("""<svg role="img" aria-label='Loss by "epoch"' viewBox=""")
    assert "var(--accent)" in svg
    assert not any(color in svg for color in (INK, LORA))
    assert "5 &lt; 6 &amp; $x" in svg  # escaped, and not a formula
    assert draw_svg(draw, 'Loss by "epoch"') == svg


def test_long_names_are_shortened():
    assert shorten("a" * 22) == "a" * 22
    assert shorten("a" * 23) == "a" * 21 + "\u2026"
