"""The pages and plots made from recorded JSON, written again without measuring: `make pages`."""

import json

from benchmarks.kept_output import RESULTS
from benchmarks.peers import peers_page
from benchmarks.quality import equality_page, quality_page
from benchmarks.speed import speed_page, time_to_accuracy

if __name__ == "__main__":
    speed_page.write_pages()
    time_to_accuracy.write_page()
    equality_page.write_page()
    quality_page.write_page(json.loads((RESULTS / "quality.json").read_text()))
    peers_page.write_pages(RESULTS)
