"""What a person sees who runs `fit` in a terminal: one bar, no adverts, no noise of libraries."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

NOISE = (
    *("litlogger", "litmodels", "lightning.ai", "/-2", "FLOPs", "modules in train mode", "weights_only", "sync_dist"),
    *("Warning", "warning", "GPU available", "TPU", "HPU", "seed set to", "num_workers", "Traceback"),
)
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def in_terminal(folder: Path, *words: str) -> str:
    """Run a command with a terminal for its output, and return what it showed, redrawn lines included."""
    reader, writer = pty.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("4H", 50, 160, 0, 0))  # rows, columns, pixels
    environment = {**os.environ, "TERM": "xterm", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "srt_distill", *words]
    process = subprocess.Popen(command, stdout=writer, stderr=writer, cwd=folder, env=environment)
    os.close(writer)
    shown = b""
    try:
        while part := os.read(reader, 65536):
            shown += part
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(reader)
    text = CONTROL.sub("", shown.decode())
    assert process.wait() == 0, text
    return text


def test_fit_shows_one_bar_and_no_noise(tiny_folder, photographs, tmp_path):
    shown = in_terminal(
        tmp_path,
        *("fit", "--model.backbone", f"local-dir:{tiny_folder}", "--data.source", "ImageFolder"),
        *("--data.source.root", str(photographs), "--data.crop_size", "32", "--data.batch_size", "1"),
        *("--data.num_workers", "0", "--data.held_out", "2", "--trainer.max_steps", "4"),
        *("--trainer.val_check_interval", "2", "--trainer.default_root_dir", str(tmp_path / "run")),
    )
    assert not [word for word in NOISE if word in shown], shown
    redrawn = re.split(r"[\r\n]+", shown)
    bars = [line for line in redrawn if re.search(r"\d+/4 \[", line)]
    assert re.search(r"4/4 \[\d\d:\d\d<\d\d:\d\d,.*loss=.*relations closed=", bars[-1]), shown
    kept = [line for line in shown.replace("\r\n", "\n").split("\n") if line.strip()]
    assert sum("/4 [" in line for line in kept) == 1, kept  # one bar, redrawn in its place
    assert any(line.startswith("Trained 4 steps") for line in kept)
