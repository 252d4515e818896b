"""The report of a run in a real browser: self-contained, complete, and without scripts."""

import json
import shutil

import pytest

from lora_tune.cli import main
from tests.end_to_end.browser import open_page, start_browser
from tests.tiny import make_base, reviews

HOSTILE = "neg<script>document.title='run'</script>"
TEXT = (
    "<script>document.title='run'</script><img src=x onerror=\"document.title='run'\"> $a_b$ fine"
)
RECIPE = """
model: {name: BASE}
data: {source: ROWS, max_length: 64}
training: {num_train_epochs: 3, per_device_train_batch_size: 8, learning_rate: 0.01}
baselines: {full_fine_tuning: true, last_layers: 1, learning_rate: 1e-3}
seeds: [3, 4]
examples: ["<script>document.title='run'</script>A fine film."]
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    make_base(folder / "base", "distilbert-base-uncased")
    (folder / "rows").mkdir()
    for split, count in (("train", 120), ("test", 40)):
        pairs = list(zip(*reviews(split), strict=True))[:count]
        lines = [
            json.dumps({"text": f"{TEXT} {text}", "label": HOSTILE if i % 2 else "positive"})
            for i, (text, _) in enumerate(pairs)
        ]
        (folder / "rows" / f"{split}.jsonl").write_text("\n".join(lines))
    recipe = RECIPE.replace("BASE", str(folder / "base")).replace("ROWS", str(folder / "rows"))
    (folder / "hostile.yaml").write_text(recipe)
    words = ["train", str(folder / "hostile.yaml"), "--output", str(folder / "run")]
    assert main(words) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def browser():
    with start_browser() as browser:
        yield browser


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_is_self_contained_and_fits(run, browser, tmp_path, width, scheme):
    with open_page(browser, run / "report.html", width=width, scheme=scheme) as (page, log):
        page.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")
        assert log.requests == [(run / "report.html").as_uri()]
        assert log.messages == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        plots = page.locator("figure svg")
        assert plots.count() == 8
        for plot in plots.all():
            box = plot.bounding_box()
            assert box["width"] > 200
            assert box["height"] > 120
            assert box["x"] + box["width"] <= width
            assert len(plot.get_attribute("aria-label")) > 30
        page.screenshot(path=tmp_path / "page.png", full_page=True)
        assert (tmp_path / "page.png").stat().st_size > 20_000


def test_text_from_data_and_recipe_stays_text(run, browser):
    with open_page(browser, run / "report.html") as (page, _):
        assert page.title() == "hostile: was it worth training?"
        assert page.evaluate("document.scripts.length + document.images.length") == 0
        shown = page.locator("main").inner_text()
        assert HOSTILE in shown
        page.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")
        assert "onerror=\"document.title='run'\"> $a_b$ fine" in page.locator("main").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_its_contrast_is_sufficient(run, browser, scheme):
    """WCAG 2.2 requires 4.5 for text and 3 for graphics."""
    with open_page(browser, run / "report.html", scheme=scheme) as (page, _):
        colors = page.evaluate(
            """['paper', 'ink', 'faint', 'accent', 'second', 'third', 'shade'].map(name =>
            [name, getComputedStyle(document.documentElement).getPropertyValue('--' + name)])"""
        )
        luminances = {name: luminance(color.strip()) for name, color in colors}
        for name, least in (("ink", 7), ("faint", 4.5), ("accent", 3), ("second", 3), ("third", 3)):
            for under in ("paper", "shade"):
                assert contrast(luminances[name], luminances[under]) >= least, (name, under)


def luminance(color):
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)


def test_the_keyboard_reaches_everything_that_folds_or_scrolls(run, browser):
    with open_page(browser, run / "report.html", width=390) as (page, _):
        wanted = page.locator("summary, .scroll").count()
        reached = set()
        for _ in range(wanted + 20):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("[...document.all].indexOf(document.activeElement)"))
        tabs = page.locator("summary, .scroll").evaluate_all(
            "all => all.map(one => [...document.all].indexOf(one))"
        )
        assert set(tabs) <= reached


def test_every_baseline_and_seed_is_recorded(run):
    comparison = json.loads((run / "comparison.json").read_text())
    names = ["majority", "tfidf", "base", "linear_probe", "last_layers", "full", "lora"]
    assert [result["name"] for result in comparison["results"]] == names
    assert [against["name"] for against in comparison["comparisons"]] == names[:-1]
    assert [score["seed"] for score in comparison["seeds"]] == [3, 4]
    by_name = {result["name"]: result for result in comparison["results"]}
    assert by_name["full"]["trained_parameters"] > by_name["last_layers"]["trained_parameters"]
    assert by_name["lora"]["metrics"] == comparison["adapted"]
    assert not (run / "checkpoints").exists()


def test_it_can_be_written_again_from_the_run_directory(run, tmp_path, capsys):
    moved = shutil.copytree(run, tmp_path / "run")
    before = (moved / "report.html").read_text()
    (moved / "report.html").unlink()
    assert main(["report", str(moved)]) == 0
    assert (moved / "report.html").read_text() == before
    (moved / "history.jsonl").write_text("{")
    assert main(["report", str(moved)]) == 2
    (moved / "comparison.json").unlink()
    assert main(["report", str(moved)]) == 2
    assert "has no comparison.json, so it is not a run directory" in capsys.readouterr().err
