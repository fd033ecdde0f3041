"""Text to token ids and back, and text that grows token by token."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hw.errors import UserError

_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"


class TextTokenizer:
    """A model's ``tokenizer.json``.

    Parameters
    ----------
    folder : the model's folder
    vocab : size of the model's vocabulary
    """

    def __init__(self, folder: Path | str, vocab: int) -> None:
        """Raises UserError where the file is missing or no tokenizer."""
        from tokenizers import Tokenizer

        self.path, self.vocab = Path(folder) / "tokenizer.json", vocab
        if not self.path.is_file():
            raise UserError(f"{self.path}: no such file")
        try:
            self._tokenizer = Tokenizer.from_file(str(self.path))
        except Exception as error:  # the library raises plain Exception
            raise UserError(f"{self.path}: not a tokenizer: {error}") from error

    def encode(self, text: str) -> list[int]:
        """Ids of ``text``; UserError where it gives none or one beyond the model's vocabulary."""
        ids = self._tokenizer.encode(text).ids
        if not ids:
            raise UserError("the prompt must not be empty")
        if max(ids) >= self.vocab:
            raise UserError(f"{self.path}: token {max(ids)} is beyond the model's vocabulary of {self.vocab}")
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ``ids``; bytes that are no UTF-8 become replacement characters."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)


class TextStream:
    """Text of a sequence as it grows: each token gives the text that became certain."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._shown = ""

    def add(self, token: int) -> str:
        """New text; "" while a character's bytes are incomplete."""
        self._ids.append(token)
        text = self._tokenizer.decode(self._ids)
        if text.endswith(_INCOMPLETE) and len(self._ids) % 8:  # eight tokens cannot be one character: give up waiting
            return ""
        return self._show(text)

    def end(self) -> str:
        """What is left at the end, incomplete or not."""
        return self._show(self._tokenizer.decode(self._ids))

    def _show(self, text: str) -> str:
        new = text[len(self._shown) :]
        self._shown = text
        return new
