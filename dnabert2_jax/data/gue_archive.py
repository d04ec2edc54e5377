"""The released archive of GUE: downloaded, checked, and unpacked into a folder of data sets."""

import json
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

import msgspec

from dnabert2_jax.data.archives import extract
from dnabert2_jax.data.download import Progress, download
from dnabert2_jax.errors import UserError
from dnabert2_jax.files import atomic_folder, folder_lock, refuse_existing, sha256_file

RELEASED_URL = (
    "https://drive.usercontent.google.com/download?id=1uOrwlf07qGQuruXqGXWMpPn8avBoW7T-"
    "&export=download&confirm=t"
)
"""Where the authors of DNABERT-2 keep GUE. They published no checksum of it."""

PROVENANCE_FILE = "archive.json"

_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Provenance:
    """Where the data sets of a folder come from.

    Attributes:
      url: the address.
      sha256: of the archive.
      size: bytes of the archive.
      files: what was unpacked, as paths in the folder.
    """

    url: str
    sha256: str
    size: int
    files: list[str]


def download_gue(
    output: Path,
    *,
    url: str = RELEASED_URL,
    sha256: str | None = None,
    progress: Progress | None = None,
    patience: float = 30,
) -> Provenance:
    """Downloads an archive of GUE and unpacks its tables; what a folder of it has already, is only compared.

    What has arrived is kept in OUTPUT.partial until all is there, and the same call goes on with it. Of the
    archive, zip or tar, the members `GUE…/….csv` and `.csv.gz` are taken. Their folder gets a file
    archive.json that says where they come from.

    Args:
      output: the folder to make.
      url: the address of the archive.
      sha256: what the archive must have, 64 hexadecimal digits; None takes what comes.
      progress: is called while the archive arrives.
      patience: seconds to wait for the server.

    Raises:
      UserError: the download failed, see `download`; the archive is refused, see `extract`, or holds no
        table; it has another checksum; `output` holds something else, or no longer all that was unpacked.
    """
    wanted = None if sha256 is None else sha256.strip().lower()
    if wanted is not None and not _SHA256.fullmatch(wanted):
        raise UserError(f"{sha256!r} is no SHA-256: it has 64 hexadecimal digits; correct it or leave it out")
    found = read_provenance(output)
    if found is not None:
        return _compared(output, found, url, wanted)
    refuse_existing(output)
    working = output.with_name(output.name + ".partial")
    try:
        working.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{working}: cannot be made: {error.strerror}; name another output folder") from error
    with folder_lock(working):
        archive = working / "archive"
        try:
            download(url, archive, progress=progress, patience=patience)
            provenance = _unpack(archive, output, url, wanted)
            archive.unlink()
            return provenance
        finally:
            # What another try can go on with is kept, and so is what is not ours.
            if {path.name for path in working.iterdir()} == {".lock"}:
                shutil.rmtree(working)


def read_provenance(folder: Path) -> Provenance | None:
    """Where the data sets of a folder come from; None where it does not say."""
    try:
        return msgspec.json.decode((folder / PROVENANCE_FILE).read_bytes(), type=Provenance)
    except (OSError, msgspec.DecodeError):
        return None


def _unpack(archive: Path, output: Path, url: str, wanted: str | None) -> Provenance:
    with atomic_folder(output) as folder:
        try:
            sha256 = sha256_file(archive)
            if wanted not in (None, sha256):
                raise UserError(
                    f"{url}: the archive has the SHA-256 {sha256} and not the {wanted} that was asked for; it"
                    " was not unpacked: download it again, or check the checksum"
                )
            places = extract(archive, folder, _place, called=url)
            if not places:
                raise UserError(f"{url}: the archive has no GUE/….csv; check the address")
        except UserError:
            # Another try shall download it anew.
            archive.unlink()
            raise
        provenance = Provenance(url, sha256, archive.stat().st_size, sorted(map(str, places)))
        (folder / PROVENANCE_FILE).write_text(json.dumps(asdict(provenance), indent=2) + "\n")
    return provenance


def _place(path: PurePosixPath) -> PurePosixPath | None:
    """Where a member goes: from its first folder GUE…, such as GUE or GUE+, on; None where it is no table."""
    # Archives made on a Mac hold a shadow ._NAME of every file.
    if not path.name.endswith((".csv", ".csv.gz")) or path.name.startswith("."):
        return None
    first = next((place for place, part in enumerate(path.parts[:-1]) if part.startswith("GUE")), None)
    if first is None or "__MACOSX" in path.parts:
        return None
    return PurePosixPath(*path.parts[first:])


def _compared(output: Path, found: Provenance, url: str, wanted: str | None) -> Provenance:
    if found.url != url:
        raise UserError(f"{output}: holds the archive of {found.url}; name another output folder")
    if wanted not in (None, found.sha256):
        raise UserError(
            f"{output}: comes from an archive with the SHA-256 {found.sha256} and not the {wanted} that was"
            " asked for; remove the folder to download it again, or check the checksum"
        )
    missing = [name for name in found.files if not (output / name).is_file()]
    if missing:
        others = f" and {len(missing) - 1} others" if missing[1:] else ""
        raise UserError(
            f"{output}: lacks {missing[0]}{others} of the {len(found.files)} files of its archive; put them"
            " back, or remove the folder to download it again"
        )
    return found
