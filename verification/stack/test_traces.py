"""Routing traces: the file format, its refusals, and statistics against published and hand-worked values."""

import io
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.errors import UserError
from sw_stack.commands.main import main
from sw_stack.workloads.published import PUBLISHED
from sw_stack.workloads.trace import ARRAYS, SHIPPED, Trace, read_trace, write_trace
from sw_stack.workloads.trace_import import excerpt, import_public_trace, open_trace
from sw_stack.workloads.trace_statistics import compute, normalised_entropy, top_share, uniform_unique, zipf_exponent


def make_trace(seed, tokens=7, layers=3, k=2, num_experts=5, sequences=2, weights=True):
    """A random valid trace."""
    rng = np.random.default_rng(seed)
    experts = rng.random((tokens, layers, num_experts)).argsort(-1)[..., :k]
    cuts = np.sort(rng.choice(np.arange(1, tokens), sequences - 1, replace=False))
    probs = -np.sort(-rng.random((tokens, layers, k))).astype(np.float16)
    return Trace(
        experts=experts.astype(np.uint8 if num_experts <= 256 else np.uint16),
        offsets=np.array([0, *cuts, tokens], np.int64),
        num_experts=num_experts,
        domains=("prose", "code"),
        domain_of_sequence=rng.integers(0, 2, sequences).astype(np.int16),
        layer_index=np.sort(rng.choice(60, layers, replace=False)).astype(np.int16),
        probs=probs if weights else None,
        scores=(4 * probs).astype(np.float16) if weights else None,
        model="test",
        source="a test",
        licence="none",
        phase="prefill",
        note="µ",
    )


def _same(a, b):
    for name in Trace.__dataclass_fields__:
        x, y = getattr(a, name), getattr(b, name)
        if isinstance(x, np.ndarray):
            np.testing.assert_array_equal(x, y)
            assert x.dtype == y.dtype
        else:
            assert x == y


@given(
    seed=st.integers(0, 1 << 30),
    tokens=st.integers(3, 20),
    layers=st.integers(1, 4),
    num_experts=st.sampled_from([4, 256, 257, 600]),
    weights=st.booleans(),
    compact=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_round_trip(tmp_path_factory, seed, tokens, layers, num_experts, weights, compact):
    """What is written is read back, bits and dtypes, and the same trace gives the same file."""
    trace = make_trace(seed, tokens, layers, num_experts=num_experts, weights=weights)
    folder = tmp_path_factory.mktemp("trace")
    first = write_trace(folder / "a.npz", trace, compact)
    _same(read_trace(first), trace)
    assert write_trace(folder / "b.npz", trace, compact).read_bytes() == first.read_bytes()


def _rewritten(path, change):
    """A copy of a trace file in which ``change`` has edited the archive's members."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    target = path.parent / "changed.npz"
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return target


def _refused(path, *parts):
    with pytest.raises(UserError) as caught:
        read_trace(path)
    message = str(caught.value)
    assert str(path) in message
    assert all(part in message for part in parts), message


def _edit_header(edit):
    def change(members):
        text = members["header.npy"]
        start = text.index(b"\n") + 1
        header = json.loads(text[start:])
        edit(header)
        body = np.frombuffer(json.dumps(header).encode(), np.uint8)
        stream = io.BytesIO()
        np.lib.format.write_array(stream, body)
        members["header.npy"] = stream.getvalue()

    return change


@pytest.mark.parametrize("array", [f"{name}.npy" for name in ("header", *ARRAYS)])
def test_missing_member(tmp_path, array):
    """A file without one of its arrays names it."""
    path = write_trace(tmp_path / "a.npz", make_trace(0))
    _refused(_rewritten(path, lambda members: members.pop(array)), array.removesuffix(".npy"), "missing")


@pytest.mark.parametrize("array", ARRAYS)
def test_flipped_byte(tmp_path, array):
    """One wrong byte in an array is found by its checksum."""
    path = write_trace(tmp_path / "a.npz", make_trace(0))

    def flip(members):
        data = bytearray(members[f"{array}.npy"])
        data[-1] ^= 1
        members[f"{array}.npy"] = bytes(data)

    _refused(_rewritten(path, flip), array, "checksum")


@pytest.mark.parametrize(
    ("edit", "parts"),
    [
        (lambda h: h.update(magic="other"), ("header", "magic")),
        (lambda h: h.update(format_version=2), ("header", "format_version", "2")),
        (lambda h: h.pop("licence"), ("header", "licence")),
        (lambda h: h.update(num_experts=3), ("experts", "below num_experts 3")),
        (lambda h: h.update(phase="later"), ("phase", "later")),
        (lambda h: h["arrays"]["experts"].update(shape=[7, 3, 3]), ("experts", "[7, 3, 3]")),
        (lambda h: h["arrays"]["offsets"].update(dtype="<i4"), ("offsets",)),
        (lambda h: h["arrays"]["probs"].pop("sha256"), ("probs", "sha256")),
        (lambda h: h["arrays"].update(extra={}), ("extra",)),
    ],
)
def test_header_disagrees(tmp_path, edit, parts):
    """A header that is not this format's, or not the arrays', names what is wrong."""
    path = write_trace(tmp_path / "a.npz", make_trace(0))
    _refused(_rewritten(path, _edit_header(edit)), *parts)


def test_no_pickle(tmp_path):
    """An array of Python objects is refused, not unpickled."""
    path = write_trace(tmp_path / "a.npz", make_trace(0))

    def spoil(members):
        np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
        members["experts.npy"] = (tmp_path / "x.npy").read_bytes()

    _refused(_rewritten(path, spoil), "experts", "cannot be read")


@pytest.mark.parametrize(
    ("changes", "array"),
    [
        ({"experts": np.zeros((7, 3, 2), np.uint8)}, "experts"),
        ({"experts": np.zeros((7, 3, 2), np.int64)}, "experts"),
        ({"experts": np.zeros((0, 3, 2), np.uint8)}, "experts"),
        ({"offsets": np.array([0, 3, 3, 7])}, "offsets"),
        ({"offsets": np.array([0, 9])}, "offsets"),
        ({"domain_of_sequence": np.array([0, 2], np.int16)}, "domain_of_sequence"),
        ({"layer_index": np.array([4, 2, 9], np.int16)}, "layer_index"),
        ({"probs": np.full((7, 3, 2), np.nan, np.float16)}, "probs"),
        ({"probs": np.full((7, 3, 2), -1, np.float16)}, "probs"),
        ({"scores": np.tile(np.array([1, 2], np.float16), (7, 3, 1))}, "scores"),
    ],
)
def test_invalid_arrays(changes, array):
    """Values that no trace can hold are refused by the array's name."""
    with pytest.raises(UserError, match=array):
        replace(make_trace(0), **changes)


@pytest.mark.parametrize("keep", [0, 10, 5000, 500_000])
def test_command_line_refuses_truncated_files(tmp_path, capsys, keep):
    """``elmoe3d trace stats`` on a cut file: one line with its name, exit status 2."""
    path = tmp_path / "cut.npz"
    path.write_bytes(SHIPPED.read_bytes()[:keep])
    with pytest.raises(SystemExit) as stop:
        main(["trace", "stats", "--trace", str(path)])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and str(path) in error


def test_shipped_excerpt():
    """The excerpt is at most 1 MB, names its licence, and its statistics are near the published ones of the whole.

    They cannot be equal: 6,600 of 144,763 tokens, and sequences of 150 tokens, in which few experts reach the 8 uses
    that the Zipf exponent within a sequence needs. 6 %, or 0.015 of a probability, covers the others.
    """
    assert SHIPPED.stat().st_size <= 1_000_000
    trace = read_trace(SHIPPED)
    assert trace.licence == "Apache-2.0" and (SHIPPED.parent / "LICENSE").read_text().lstrip().startswith("Apache")
    found = compute(trace).scalars
    for name, published in PUBLISHED["gpt-oss-20b"].items():
        if name != "zipf_within":
            assert found[name] == pytest.approx(published.middle, rel=0.06, abs=0.015), name


def test_slots_of_the_excerpt():
    """Reuse and mean weight by rank of the slot are the published .51/.47/.43/.35 and .351/.264/.211/.174."""
    found = compute(read_trace(SHIPPED))
    np.testing.assert_allclose(found.reuse_by_slot, [0.51, 0.47, 0.43, 0.35], atol=0.01)
    np.testing.assert_allclose(found.probs_by_slot, [0.351, 0.264, 0.211, 0.174], atol=0.003)


def test_statistics_by_hand():
    """A trace of two sequences whose statistics are worked by hand.

    Sequence A uses {0,1} {0,2} {0,1} {3,2}, B uses {1,2} {1,2}. Lag 1: A 1 of 2, 1 of 2, 0 of 2; B 2 of 2: 4 of 8.
    Counts 3, 4, 4, 1 of 12. Windows of 4 inside sequences: A only, all 4 experts.
    """
    rows = [[0, 1], [0, 2], [0, 1], [3, 2], [1, 2], [1, 2]]
    trace = Trace(
        experts=np.array(rows, np.uint8)[:, None],
        offsets=np.array([0, 4, 6]),
        num_experts=4,
        model="hand",
        source="hand",
        licence="none",
        domains=("a", "b"),
        domain_of_sequence=np.array([0, 1], np.int16),
    )
    found = compute(trace)
    assert found.scalars["reuse_lag_1"] == pytest.approx(4 / 8)
    assert np.isnan(found.scalars["reuse_lag_8"]) and np.isnan(found.scalars["entropy_within"])
    share = np.array([3, 4, 4, 1]) / 12
    assert found.scalars["entropy_pooled"] == pytest.approx(-(share * np.log(share)).sum() / np.log(4))
    assert found.scalars["unique_consecutive_4"] == 4
    assert np.isnan(found.scalars["unique_across_4"])
    # A: 3, 2, 2, 1 of 8; B: 0, 2, 2, 0 of 4; shared mass min(3/8,0)+min(1/4,1/2)+min(1/4,1/2)+0
    assert found.domain_overlap[0, 1] == pytest.approx(0.5)
    assert found.reuse_by_slot.tolist() == [pytest.approx(3 / 4), pytest.approx(1 / 4)]


def test_estimators():
    """Zipf exponent of exact power laws, entropy of even use, top share of one expert, the published uniform values."""
    ranks = np.arange(1, 129)
    assert zipf_exponent(1e9 * ranks**-0.8) == pytest.approx(0.8)
    assert np.isnan(zipf_exponent(np.array([5, 4, 3, 2])))
    assert normalised_entropy(np.full(32, 7)) == pytest.approx(1)
    assert top_share(np.eye(8)[0] * 9) == 1
    for n, k, expected in ((32, 4, 28.2), (64, 6, 50.8), (128, 8, 82.4)):
        assert uniform_unique(n, k, 16) == pytest.approx(expected, abs=0.05)


def _public(folder, **arrays):
    """Files in the layout of the public trace."""
    rng = np.random.default_rng(2)
    data = {
        "experts": rng.random((30, 24, 32)).argsort(-1)[..., :4].astype(np.uint8),
        "offsets": np.array([0, 12, 30]),
    }
    np.savez(folder / "public.npz", **(data | arrays))
    meta = [{"dataset": "mmlu", "category": "law"}, {"dataset": "gpqa", "category": "physics"}]
    (folder / "public.meta.json").write_text(json.dumps(meta))
    return folder / "public.npz", data


def test_import(tmp_path):
    """The public layout becomes a trace with its domains; an excerpt keeps the first tokens of long sequences."""
    path, data = _public(tmp_path)
    trace = import_public_trace(path, "category")
    np.testing.assert_array_equal(trace.experts, data["experts"])
    assert trace.domains == ("law", "physics") and trace.num_experts == 32
    short = excerpt(trace, 1, 15)
    np.testing.assert_array_equal(short.experts, data["experts"][12:27])
    assert short.domain_of_sequence.tolist() == [1]
    np.testing.assert_array_equal(excerpt(trace, 2, 5).experts, data["experts"][[*range(5), *range(12, 17)]])
    with pytest.raises(UserError, match="at most 1 sequences"):
        excerpt(trace, 2, 15)


def test_given_traces_may_be_either_format(tmp_path):
    """The public trace is recognised by what lies beside it; this project's own beside any file is still its own, and
    what is no archive is refused by name."""
    path, data = _public(tmp_path)
    np.testing.assert_array_equal(open_trace(path).experts, data["experts"])
    path.with_suffix(".meta.json").rename(tmp_path / "own.meta.json")
    own = write_trace(tmp_path / "own.npz", read_trace(SHIPPED).select(np.arange(2), 9))
    assert open_trace(own).experts.shape == (18, 24, 4)
    with pytest.raises(UserError, match=r"public\.npz: array 'header' is missing"):
        open_trace(path)
    own.write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"own\.npz"):
        open_trace(own)


@pytest.mark.parametrize(
    ("arrays", "part"),
    [
        ({"offsets": np.array([0, 31, 30])}, "offsets"),
        ({"experts": np.full((30, 24, 4), 40, np.uint8)}, "experts"),
        ({"experts": np.zeros((30, 24, 4))}, "public.npz"),
    ],
)
def test_import_refuses(tmp_path, arrays, part):
    """A source that is not what it should be is named, with the array."""
    path, _ = _public(tmp_path, **arrays)
    with pytest.raises(UserError, match=part):
        import_public_trace(path)


def test_stats_command(tmp_path, capsys):
    """``elmoe3d trace stats`` prints the statistics beside the published ones, and writes figure and JSON."""
    with pytest.raises(SystemExit) as stop:
        main(["trace", "stats", "--json", str(tmp_path / "s.json"), "--out", str(tmp_path)])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert "Zipf exponent, pooled" in printed and "0.85-0.89" in printed and "28.2" in printed
    content = json.loads((tmp_path / "s.json").read_text())
    assert content["provenance"]["seed"] == 0
    assert content["statistics"]["reuse_lag_1"] == pytest.approx(0.442, abs=0.001)
    assert (tmp_path / "gpt-oss-20b.svg").read_text().count("<svg") == 1
