"""All arms run and fill the table; what so few steps show means nothing."""

import re

import pytest


@pytest.mark.slow
def test_few_steps(benchmark, tmp_path):
    folder = tmp_path / "glue" / "CoLA"
    folder.mkdir(parents=True)
    for split, rows in {"train": 32, "dev": 9}.items():
        (folder / f"{split}.tsv").write_text("".join(f"x\t{row % 2}\t\tThe man sat{' down' * (row % 3)}.\n" for row in range(rows)))
    said = benchmark("encoders_effect.py", f"--out={tmp_path}", f"--glue={tmp_path / 'glue'}", "--steps=2", "--seeds=0", "--tasks=cola")
    rows = re.findall(r"^\| (\w+) \| 0 \| [\d.]+ \| [\d.]+ \| ([\d.]+) \| (-?[\d.]+) \|$", said, re.MULTILINE)
    assert [arm for arm, *_ in rows] == ["mlm", "mlm15", "rtd", "wwm"]
    losses = {arm: float(loss) for arm, loss, _ in rows}
    assert losses["mlm"] == pytest.approx(losses["wwm"], abs=0.2)  # both are validated on single tokens
    assert losses["rtd"] > 3 * losses["mlm"]  # 50 times ln 2 beside the generator's
