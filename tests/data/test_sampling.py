"""Even samples of a stream."""

from rootstock.data.sampling import PIECE, pieces, sample


def test_pieces_lose_nothing_but_blank_lines():
    text = "one\n\n" + "word " * 3000 + "\n" + "北" * 9000 + "\n  \ntwo"
    found = list(pieces([text]))
    assert "".join(found).replace(" ", "") == text.replace(" ", "").replace("\n", "")
    assert all(len(piece) <= PIECE for piece in found)
    assert not any(piece.rstrip().endswith("wor") or piece.startswith("ord") for piece in found)


def test_all_where_they_fit():
    assert sample(["a b\nc", "d"], 100) == ["a b", "c", "d"]
    assert sample([], 100) == []


def test_half_to_all_of_what_was_asked_for():
    texts = [f"{i:09d}" for i in range(10_000)]
    found = sample(iter(texts), 9_000)
    assert 4_000 < sum(map(len, found)) <= 9_000
    assert found == sorted(found) == sample(texts, 9_000)
    thirds = [sum(low <= int(text) < low + 2500 for text in found) / len(found) for low in range(0, 10_000, 2500)]
    assert all(0.19 < share < 0.31 for share in thirds)  # a quarter each, within four deviations of a draw of some 700
