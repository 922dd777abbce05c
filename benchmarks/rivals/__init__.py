"""The rivals, each in a virtual environment of its own under .venv-rivals, made when it is first needed."""

from __future__ import annotations

import site
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_HOME = Path(__file__).parent.parent.parent / ".venv-rivals"


@dataclass(frozen=True)
class Rival:
    """How a rival is installed.

    Parameters
    ----------
    packages : tuple of str
        Requirements.
    shares : bool
        Whether it sees this project's packages, torch above all, so that both sides run on the same ones.
    alone : bool
        Whether its own dependencies are left out, where the part that is compared needs none of them.
    """

    packages: tuple[str, ...]
    shares: bool = True
    alone: bool = False


RIVALS = {
    # its captioning metrics need Java; classification needs neither that nor the packages for it. It makes numbers of
    # arrays of one element, which NumPy 2.4 refuses.
    "clip-benchmark": Rival(("clip-benchmark==1.6.2", "webdataset", "braceexpand", "numpy<2.4"), alone=True),
    "hugging-face": Rival(("transformers>=4.50",)),
    "sentence-transformers": Rival(("sentence-transformers>=5", "transformers>=4.50")),
    # its server extra forgets aiohttp; it holds back torch and transformers, so that it shares nothing
    "infinity": Rival(("infinity-emb[torch,server,vision]==0.0.78", "aiohttp"), shares=False),
}


def python_of(name: str, home: Path = _HOME) -> Path:
    """Give the interpreter of a rival's environment, which is made when it is not there.

    Parameters
    ----------
    name : str
        Of `RIVALS`.
    home : Path
        Where environments are.

    Returns
    -------
    Path
        Its python.
    """
    rival, folder = RIVALS[name], home / name
    python, done = folder / "bin/python", folder / "installed.txt"
    wanted = "\n".join(rival.packages)
    if done.exists() and done.read_text() == wanted:
        return python
    print(f"installing {name} into {folder}", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    if rival.shares:
        (own,) = folder.glob("lib/python*/site-packages")
        (own / "shared.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    options = ["--no-deps"] if rival.alone else []
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", *options, *rival.packages], check=True)
    done.write_text(wanted)
    return python
