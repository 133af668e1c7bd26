"""A run of several processes: the same losses as one process has, one MODEL_DIR, one report."""

import os
import socket
import subprocess
import sys

import numpy as np

from rootstock.engine import checkpoints

PLAIN = ["TRAIN_STEPS=4", "--gin_bindings=bert.Config.dropout = 0.0", "--gin_bindings=bert.Config.attention_dropout = 0.0"]
COUNT = 2
PATIENCE = 180  # seconds; a process that waits for one that has died would wait for ever


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def together(tiny, folder, *more):
    """Trains in COUNT processes of one device each; what the first said."""
    one_device = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=1")
    address = f"--coordinator_address=127.0.0.1:{free_port()}"
    running = []
    for index in range(COUNT):
        where = [address, f"--process_count={COUNT}", f"--process_index={index}"]
        command = [sys.executable, "-m", "rootstock.pretrain", *tiny.flags(folder, *PLAIN, *more), *where]
        environment = os.environ | {"XLA_FLAGS": one_device}
        running.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
    try:
        said = [process.communicate(timeout=PATIENCE)[0] for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0] * COUNT, said
    return said[0]


def test_two_processes_train_as_one(tiny, tmp_path):
    """One has the eight devices of the tests. Sums over devices are added in another order: equal to 1e-5."""
    assert tiny.run(tmp_path / "one", *PLAIN) == 0
    each = "--gin_bindings=train.Run.save_every = 2"
    said = together(tiny, tmp_path / "two", each)
    assert said.count("step 4/4") == 1
    for split in ("train", "validation"):
        one, two = (np.array(tiny.lines(tmp_path / name, split)) for name in ("one", "two"))
        assert len(one) == {"train": 4, "validation": 2}[split]
        np.testing.assert_allclose(two, one, atol=1e-5)
    assert checkpoints.steps(tmp_path / "two") == [2, 4]
    damaged = max((tmp_path / "two/checkpoints/4/params").rglob("*"), key=lambda path: path.is_file() and path.stat().st_size)
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    assert "resuming" in together(tiny, tmp_path / "two", each) and checkpoints.steps(tmp_path / "two") == [2, 4]
    assert (tmp_path / "two/checkpoints/4.damaged").is_dir()  # both went on from step 2
    said = together(tiny, tmp_path / "three", f"--gin_bindings=train.Run.init_from = '{tmp_path / 'one'}'")
    starts, ends = tiny.lines(tmp_path / "three", "validation")[0], tiny.lines(tmp_path / "one", "validation")[-1]
    assert starts[0] == 0 and abs(starts[1] - ends[1]) < 1e-5  # it begins with what the first ended with
    assert "<html" in (tmp_path / "two" / "report.html").read_text()
