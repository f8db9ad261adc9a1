"""``fettle gpu-measure``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def gpu_measure(
    shortlists: Annotated[
        list[Path], typer.Option("--in", help="What `fettle jobs shortlist` wrote; several are measured in order.")
    ],
    output: Annotated[Path, typer.Option("--out", help="Folder of the results; goes on with those it has.")],
    minutes: Annotated[float, typer.Option(min=0.0, help="About how long; at least one trial is made.")] = 8.0,
    device: Annotated[str, typer.Option("--device", help="The GPU.")] = "triton:0",
    hot: Annotated[bool, typer.Option("--hot", help="Leave weights in the cache between calls.")] = False,
) -> None:
    """Measure a shortlist on a GPU that is here. Exits with 0 when all is measured, 3 while there is more to do.

    The same program runs where only some wheels are: python -m fettle.backends.triton.campaign.

    Example: fettle gpu-measure --minutes 8 --in shortlist.json --out results/
    """
    from fettle.backends.triton import campaign

    arguments = ["--minutes", str(minutes), "--out", str(output), "--device", device]
    arguments += [word for shortlist in shortlists for word in ("--in", str(shortlist))]
    raise typer.Exit(campaign.main([*arguments, *(["--hot"] if hot else [])]))
