"""`dnabert2 gue download`: the released archive of GUE, checked and unpacked."""

from dnabert2_jax.cli.arguments import Parser

_EXAMPLES = """examples:
  dnabert2 gue download --output gue
  dnabert2 gue download --output gue --url https://example.org/GUE.zip --sha256 3f5a…

The authors of DNABERT-2 keep GUE at Google Drive and published no checksum. The SHA-256 of what came is
printed, and written to DIR/archive.json; give it with --sha256 to be sure to get the same elsewhere or later.
A download that broke off goes on with the same command; what has arrived lies in DIR.partial until then.

Where the server cannot be reached, download the archive in a browser and unpack it: every command takes a
folder that holds EMP/H3/train.csv and the like with --data."""


def main(words: list[str]) -> None:
    """Parses and runs."""
    parser = Parser(
        "dnabert2 gue download",
        description="Downloads the data sets of GUE, or of an archive of the same layout.",
        epilog=_EXAMPLES,
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="the folder to make")
    parser.add_argument("--url", metavar="U", help="a zip or tar file (default: the released archive)")
    parser.add_argument("--sha256", metavar="H", help="the checksum that the archive must have")
    arguments = parser.parse_args(words)

    from pathlib import Path

    from tqdm import tqdm

    from dnabert2_jax.data.gue_archive import RELEASED_URL, download_gue
    from dnabert2_jax.data.gue_sets import present_tasks
    from dnabert2_jax.data.gue_tasks import TASKS

    output = Path(arguments.output)
    with tqdm(unit="B", unit_scale=True, desc="archive", disable=None) as bar:

        def progress(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        provenance = download_gue(
            output, url=arguments.url or RELEASED_URL, sha256=arguments.sha256, progress=progress
        )
    found = len(present_tasks(output))
    print(f"{output}: {found} of the {len(TASKS)} tasks of GUE and GUE+, {len(provenance.files)} files")
    print(f"SHA-256 of the archive, {provenance.size:,} bytes: {provenance.sha256}")
