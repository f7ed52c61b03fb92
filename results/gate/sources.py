"""Columns by name, from files of any usual format and from tables in memory.

CSV and TSV, JSON and JSON lines, Parquet, Feather (Arrow), NPZ and NPY, each also compressed with gzip or
zstd. Everything is parsed by pyarrow, numpy and msgspec. Text formats give text: nothing is guessed from
how a value looks, so that an id `007` and a class `nan` arrive as they were written.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from results.predictions import read_arrays

Column = Any  # a pyarrow.ChunkedArray; pyarrow carries no types
SEPARATORS = (",", ";", "\t", "|")
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd"}
_FIRST_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class TextFormat:
    """What a text file does not say about itself; empty: found by itself."""

    sep: str = ""
    encoding: str = ""
    decimal: str = "."


@dataclass(frozen=True, kw_only=True)
class Source:
    """Named columns of equal length, read when they are asked for."""

    label: str
    """What messages call it: the file's path, or `old` and `new` for tables in memory."""
    names: tuple[str, ...]
    load: Callable[[Sequence[str]], Mapping[str, Column]]
    class_names: tuple[str, ...] = ()
    """Names of the classes, where the file holds them beside the columns."""
    text: bool = False
    """Whether all cells are text, as in CSV."""

    def read(self, names: Sequence[str]) -> dict[str, Column]:
        """The columns `names`, each once.

        Raises:
            ValueError: a column that there is not, or columns of different lengths.
        """
        wanted = list(dict.fromkeys(names))
        missing = [name for name in wanted if name not in self.names]
        if missing:
            raise ValueError(f"no column '{missing[0]}'; {there_are(self.names)}")
        columns = {name: _chunked(column) for name, column in self.load(wanted).items()}
        for name in wanted[1:]:
            if len(columns[name]) != len(columns[wanted[0]]):
                raise ValueError(
                    f"{name} has {len(columns[name]):,} rows and {wanted[0]} {len(columns[wanted[0]]):,}"
                )
        return columns


def there_are(names: Sequence[str]) -> str:
    """`there are: a, b, c`, not longer than a line."""
    shown = ", ".join(names[:20]) + (f", ... ({len(names)} in all)" if len(names) > 20 else "")
    return f"there are: {shown or 'none'}"


def open_source(path: Path, text: TextFormat) -> Source:
    """The columns of a file, by its ending.

    Raises:
        ValueError: another ending, or a file that is not what its ending says.
        OSError: a file that cannot be read.
    """
    ending, compression = endings(path)
    if ending not in FORMATS:
        _must_be_there(path)
        known = ", ".join(FORMATS)
        raise ValueError(f"the ending must be one of {known} (each also with .gz or .zst)")
    return FORMATS[ending](path, compression, text)


def endings(path: Path) -> tuple[str, str | None]:
    """(ending that names the format, compression): `a.csv.gz` -> (`.csv`, `gzip`)."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compression = COMPRESSIONS.get(suffixes[-1]) if suffixes else None
    rest = suffixes[:-1] if compression else suffixes
    return (rest[-1] if rest else ""), compression


def from_memory(data: Any, label: str) -> Source:
    """A pandas DataFrame, a pyarrow Table, a mapping of arrays, or one array of predictions or scores."""
    if isinstance(data, pa.Table):
        return _of_table(data, label)
    if hasattr(data, "columns") and hasattr(data, "to_numpy"):  # a DataFrame, without importing pandas
        return _of_table(pa.Table.from_pandas(data, preserve_index=data.index.name is not None), label)
    if isinstance(data, Mapping):
        return _of_arrays({str(name): np.asarray(value) for name, value in data.items()}, label)
    array = np.asarray(data)
    if array.ndim not in (1, 2):
        raise ValueError(f"{label}: an array of shape {array.shape}; wanted (samples,) or (samples, classes)")
    return _of_array(array, label)


def lines_of(data: bytes) -> list[Any]:
    """The values of JSON lines; empty lines count for nothing.

    Raises:
        ValueError: naming the line that is not JSON.
    """
    try:
        return msgspec.json.Decoder().decode_lines(data)
    except msgspec.DecodeError:
        values = []
        for number, line in enumerate(data.splitlines(), 1):
            if line.strip():
                try:  # json reads NaN, which Python's own writers put into files
                    values.append(json.loads(line))
                except ValueError as error:
                    raise ValueError(f"line {number} is not JSON ({error})") from error
        return values


def of_rows(rows: Sequence[Any], label: str) -> Source:
    """Rows as JSON has them; what is nested becomes columns such as `doc.subject`."""
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise ValueError(f"row {number} is not a JSON object but {type(row).__name__}")
    names: dict[str, None] = {}
    for row in rows:
        for name, value in row.items():
            names[name] = None
            if isinstance(value, dict):
                names |= {f"{name}.{inner}": None for inner in value}

    def load(wanted: Sequence[str]) -> dict[str, Column]:
        return {name: _of_values([_cell(row, name) for row in rows]) for name in wanted}

    return Source(label=label, names=tuple(names), load=load)


def _cell(row: Mapping[str, Any], name: str) -> Any:
    if name in row:
        return row[name]
    outer, _, inner = name.partition(".")
    nested = row.get(outer)
    return nested.get(inner) if isinstance(nested, dict) else None


def _of_values(values: list[Any]) -> Column:
    """Values of JSON as a column; where they are of several kinds, as text."""
    kinds = {type(value) for value in values} - {type(None)}
    if kinds <= {int, float} or len(kinds) == 1:
        try:
            return pa.chunked_array([pa.array(values, from_pandas=kinds == {float})])
        except (pa.ArrowException, OverflowError):
            pass
    return pa.chunked_array([pa.array([_as_text(value) for value in values], pa.string())])


def _as_text(value: Any) -> str | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()


def content(path: Path, compression: str | None) -> bytes:
    """A file's bytes, unpacked.

    Raises:
        ValueError: a compressed file that is damaged or is none.
    """
    if not path.exists():
        raise FileNotFoundError(2, "No such file", str(path))
    if compression is None:
        return path.read_bytes()
    try:
        with pa.input_stream(str(path), compression=compression) as stream:
            data: bytes = stream.read()
            return data
    except (OSError, pa.ArrowException, gzip.BadGzipFile, EOFError) as error:
        raise ValueError(f"not a {compression} file, or damaged ({error})") from error


def decoded(data: bytes, encoding: str) -> str:
    """Text: in the encoding said, or by the byte order mark, or UTF-8.

    Raises:
        ValueError: naming the encodings to try, where the bytes are in another.
    """
    try:
        return data.decode(encoding or _encoding_of(data)).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"not text in {error.encoding} ({error.reason} at byte {error.start}); try {_TRY}"
        ) from None
    except LookupError as error:
        raise ValueError(f"encoding={encoding}: {error}") from None


_TRY = "encoding=latin-1 or encoding=utf-16"


def _encoding_of(data: bytes) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    return "utf-8-sig"


def as_utf8(data: bytes, encoding: str) -> bytes:
    """A text file's bytes in UTF-8 without a byte order mark; UTF-8 itself is not checked."""
    utf8 = encoding.lower().replace("-", "") in ("", "utf8", "utf8sig")
    if _encoding_of(data) == "utf-16" or not utf8:
        data = decoded(data, encoding).encode()
    return data.removeprefix(codecs.BOM_UTF8)


def _read_csv(path: Path, compression: str | None, text: TextFormat) -> Source:
    data = as_utf8(content(path, compression), text.encoding)
    if not data.strip():
        raise ValueError("the file is empty")
    first = decoded(data[:_FIRST_BYTES].partition(b"\n")[0], text.encoding and "utf-8")
    sep = "\t" if text.sep in ("tab", "\\t") else text.sep or _separator(first)
    if len(sep) != 1:
        raise ValueError(f"sep={text.sep}: must be one character, or tab")
    header = next(csv.reader(io.StringIO(data[:_FIRST_BYTES].decode("utf-8", "replace")), delimiter=sep))
    names = tuple(name.strip() for name in header)
    if len(set(names)) != len(names):
        raise ValueError(f"column '{max(names, key=names.count)}' comes twice")

    def load(wanted: Sequence[str]) -> dict[str, Column]:
        try:
            table = _csv_table(data, names, sep, wanted, use_threads=True)
        except pa.ArrowException:
            try:  # only one thread knows the number of the row
                table = _csv_table(data, names, sep, wanted, use_threads=False)
            except pa.ArrowException as error:
                raise ValueError(_csv_complaint(str(error))) from error
        return {name: table.column(name) for name in wanted}

    return Source(label=str(path), names=names, load=load, text=True)


def _csv_table(
    data: bytes, names: Sequence[str], sep: str, wanted: Sequence[str], *, use_threads: bool
) -> Any:
    from pyarrow import csv as arrow

    return arrow.read_csv(
        pa.py_buffer(data),
        read_options=arrow.ReadOptions(
            column_names=list(names), skip_rows=1, block_size=1 << 24, use_threads=use_threads
        ),
        parse_options=arrow.ParseOptions(delimiter=sep, newlines_in_values=b'"' in data),
        convert_options=arrow.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            include_columns=list(wanted),
            strings_can_be_null=False,
        ),
    )


_WRONG_COUNT = re.compile(r"Row #(?P<row>\d+): Expected (?P<wanted>\d+) columns, got (?P<found>\d+)")


def _csv_complaint(text: str) -> str:
    if "UTF8" in text:
        return f"not text in UTF-8; try {_TRY}"
    if "Could not skip" in text:
        return "there is nothing below the header"
    if match := _WRONG_COUNT.search(text):
        more = "more" if int(match["found"]) > int(match["wanted"]) else "fewer"
        return (
            f"row {int(match['row']) - 1} has {more} cells than the header "
            f"({match['found']}, the header has {match['wanted']})"
        )
    return text.partition("\n")[0]


def _separator(header: str) -> str:
    """The separator that splits the header into the most cells."""
    counts = {sep: len(next(csv.reader([header], delimiter=sep), [])) for sep in SEPARATORS}
    most = max(counts.values())
    best = [sep for sep in SEPARATORS if counts[sep] == most]
    if most > 1 and len(best) > 1:
        shown = " or ".join(repr(sep) for sep in best)
        raise ValueError(f"the cells may be separated by {shown}: say which with sep=")
    return best[0]


def _read_tsv(path: Path, compression: str | None, text: TextFormat) -> Source:
    sep = text.sep or "\t"
    return _read_csv(path, compression, TextFormat(sep=sep, encoding=text.encoding, decimal=text.decimal))


def _read_jsonl(path: Path, compression: str | None, text: TextFormat) -> Source:
    return of_rows(lines_of(as_utf8(content(path, compression), text.encoding)), str(path))


def _read_json(path: Path, compression: str | None, text: TextFormat) -> Source:
    return of_rows(json_rows(decoded(content(path, compression), text.encoding)), str(path))


def json_rows(text: str) -> list[Any]:
    """Records of a JSON file: a list of objects, or one object of equally long lists.

    Raises:
        ValueError: other JSON, or none.
    """
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValueError(f"not JSON ({error})") from error
    if isinstance(value, dict) and value and all(isinstance(column, list) for column in value.values()):
        if len({len(column) for column in value.values()}) > 1:
            raise ValueError("the columns have different lengths")
        value = [dict(zip(value, row, strict=True)) for row in zip(*value.values(), strict=True)]
    if not isinstance(value, list):
        raise ValueError("not a list of objects, one per sample")
    return value


def _read_parquet(path: Path, compression: str | None, text: TextFormat) -> Source:
    import pyarrow.parquet

    _must_be_there(path)
    file: Any = path if compression is None else pa.BufferReader(content(path, compression))
    try:
        opened = pyarrow.parquet.ParquetFile(file, memory_map=compression is None)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"not a Parquet file ({error})") from error
    names = tuple(opened.schema_arrow.names)

    def load(wanted: Sequence[str]) -> dict[str, Column]:
        try:
            table = opened.read(columns=list(wanted))
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"damaged Parquet file ({error})") from error
        return {name: table.column(name) for name in wanted}

    return Source(label=str(path), names=_once(names), load=load)


def _read_feather(path: Path, compression: str | None, text: TextFormat) -> Source:
    import pyarrow.feather

    _must_be_there(path)
    file: Any = str(path) if compression is None else pa.BufferReader(content(path, compression))
    try:
        try:
            table = pyarrow.feather.read_table(file)
        except pa.ArrowInvalid:  # a stream, as `pyarrow.ipc.new_stream` writes it, not a file
            table = pa.ipc.open_stream(content(path, compression)).read_all()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"not an Arrow or Feather file ({error})") from error
    return _of_table(table, str(path))


def _read_npz(path: Path, compression: str | None, text: TextFormat) -> Source:
    return _of_arrays(read_arrays(content(path, compression)), str(path))


def _read_npy(path: Path, compression: str | None, text: TextFormat) -> Source:
    try:
        array = np.load(io.BytesIO(content(path, compression)), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError("not an NPY file of a plain array") from error
    if not isinstance(array, np.ndarray) or array.ndim not in (1, 2):
        shape = getattr(array, "shape", "?")
        raise ValueError(f"an array of shape {shape}; wanted (samples,) or (samples, classes)")
    return _of_array(array, str(path))


def _must_be_there(path: Path) -> None:
    if not path.exists():
        raise FileNotFoundError(2, "No such file", str(path))


def _once(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) != len(names):
        raise ValueError(f"column '{max(names, key=names.count)}' comes twice")
    return names


def _of_table(table: Any, label: str) -> Source:
    names = _once(tuple(map(str, table.column_names)))

    def load(wanted: Sequence[str]) -> dict[str, Column]:
        return {name: table.column(names.index(name)) for name in wanted}

    return Source(label=label, names=names, load=load)


def _of_arrays(arrays: Mapping[str, np.ndarray[Any, Any]], label: str) -> Source:
    class_names: tuple[str, ...] = ()
    for name in ("classes", "classes_"):  # as scikit-learn's classifiers call them
        if name in arrays and len({len(a) for a in arrays.values() if a.ndim}) > 1:
            class_names = tuple(map(str, arrays[name].tolist()))
            arrays = {other: array for other, array in arrays.items() if other != name}

    def load(wanted: Sequence[str]) -> dict[str, Column]:
        return {name: of_array(name, arrays[name]) for name in wanted}

    return Source(label=label, names=tuple(arrays), load=load, class_names=class_names)


def _of_array(array: np.ndarray[Any, Any], label: str) -> Source:
    """One array: named columns if it is structured, scores [N, C], or predictions (or targets) [N]."""
    if array.dtype.names:
        return _of_arrays({name: array[name] for name in array.dtype.names}, label)
    return _of_arrays({"scores" if array.ndim == 2 else "values": array}, label)


def of_array(name: str, array: np.ndarray[Any, Any]) -> Column:
    """A numpy array [N] or [N, C] as a column, or a column of lists.

    Raises:
        ValueError: another shape, or values that are neither numbers nor text.
    """
    if array.ndim == 0:
        raise ValueError(f"{name} is a single number, wanted one for each sample")
    if array.dtype.kind == "c":
        raise ValueError(f"{name} holds complex numbers")
    if array.dtype.kind not in "biufUTOSMm" or array.ndim > 2:
        raise ValueError(
            f"{name} has shape {array.shape} of {array.dtype}, wanted (samples,) or (samples, classes)"
        )
    try:
        if array.dtype.kind == "O":
            return pa.chunked_array([pa.array(list(array), from_pandas=True)])
        if array.ndim == 1:
            return pa.chunked_array([pa.array(array, from_pandas=True)])
        flat = pa.array(np.ascontiguousarray(array).reshape(-1))
        return pa.chunked_array([pa.FixedSizeListArray.from_arrays(flat, array.shape[1])])
    except (pa.ArrowException, TypeError) as error:
        raise ValueError(f"{name} holds neither numbers nor text ({error})") from error


def _chunked(column: Any) -> Column:
    made = column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])
    return made.cast(pa.string()) if pa.types.is_string_view(made.type) else made


FORMATS: Mapping[str, Callable[[Path, str | None, TextFormat], Source]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".txt": _read_csv,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".json": _read_json,
    ".parquet": _read_parquet,
    ".pq": _read_parquet,
    ".feather": _read_feather,
    ".arrow": _read_feather,
    ".npz": _read_npz,
    ".npy": _read_npy,
}
