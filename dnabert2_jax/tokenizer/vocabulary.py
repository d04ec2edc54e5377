"""What a BPE vocabulary of DNA is: five special tokens, A C G T, then one merged piece per merge, as learnt.

In: a list of pieces in id order. Out: the same list, checked, and the merges that it implies.
"""

import functools

from dnabert2_jax.errors import UserError

UNK_ID, CLS_ID, SEP_ID, PAD_ID, MASK_ID = range(5)
SPECIAL_TOKENS = ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]")
LETTERS = ("A", "C", "G", "T")
FIRST_MERGE_ID = len(SPECIAL_TOKENS) + len(LETTERS)

LARGEST_VOCABULARY = 1 << 16  # a corpus stores ids as uint16
LONGEST_PIECE = 128  # bases; bounds the work that an untrusted file can ask for

Merge = tuple[str, str]


@functools.lru_cache(maxsize=2)  # loading and saving ask again
def derive_merges(pieces: tuple[str, ...]) -> tuple[Merge, ...]:
    """The merge that makes each piece, in order; this is also the check that `pieces` is a BPE vocabulary.

    A piece learnt by BPE is what two neighbours of the training text were joined into, and inside the
    piece that text had been through exactly the merges learnt before. Replaying those on the piece alone
    therefore leaves two parts: its merge. It also follows that no text ever brings another two neighbours
    together that would spell the piece, so that an encoder which looks up merges (the `tokenizers`
    library) and one which looks up pieces (SentencePiece, score = -id) give the same ids on every text.

    Args:
      pieces: all V pieces in id order.

    Returns:
      V - 9 pairs; pair k joins into piece k + 9.

    Raises:
      UserError: the pieces are not such a vocabulary; says which one and why, without naming a file.

    Examples:
      >>> derive_merges((*SPECIAL_TOKENS, *LETTERS, "TA", "TATA"))
      (('T', 'A'), ('TA', 'TA'))
    """
    first, letters = pieces[: len(SPECIAL_TOKENS)], pieces[len(SPECIAL_TOKENS) : FIRST_MERGE_ID]
    if first != SPECIAL_TOKENS:
        raise UserError(f"ids 0-4 must be {' '.join(SPECIAL_TOKENS)}, but they are {_shown(first)}")
    if letters != LETTERS:
        raise UserError(
            f"ids 5-8 must be A C G T, but they are {_shown(letters)}; this is not a DNA vocabulary"
        )
    if len(pieces) > LARGEST_VOCABULARY:
        raise UserError(
            f"the vocabulary has {len(pieces)} entries; at most {LARGEST_VOCABULARY} are supported"
        )
    ids = {letter: len(SPECIAL_TOKENS) + k for k, letter in enumerate(LETTERS)}
    merges: dict[str, Merge] = {}
    for token_id in range(FIRST_MERGE_ID, len(pieces)):
        piece = pieces[token_id]
        if not 2 <= len(piece) <= LONGEST_PIECE or piece.strip("ACGT"):
            raise UserError(
                f"id {token_id} is {_shown([piece])}, but a piece is 2 to {LONGEST_PIECE} letters of A C G T"
            )
        merge = _merge_that_makes(piece, ids, merges)
        if merge is None:
            raise UserError(
                f"id {token_id}, {_shown([piece])}, does not follow from the pieces before it by one merge; "
                "the ids must be in the order in which the pieces were learnt"
            )
        merges[piece] = merge
        ids[piece] = token_id
    return tuple(merges.values())


def _merge_that_makes(piece: str, ids: dict[str, int], merges: dict[str, Merge]) -> Merge | None:
    for at in range(1, len(piece)):
        left, right = piece[:at], piece[at:]
        if left in ids and right in ids and _stay_apart(left, right, ids, merges):
            return left, right
    return None


def _stay_apart(left: str, right: str, ids: dict[str, int], merges: dict[str, Merge]) -> bool:
    """Whether BPE, given the text `left + right`, ends with these two pieces.

    It does unless it would have joined something across the border first. Going backwards, the piece at
    the border that was made last is taken apart again; whatever spans the border then must not be a piece
    with a lower id than the one taken apart. Of two equal pieces the left one was made first.
    """
    made_next = LARGEST_VOCABULARY
    while True:
        if ids.get(left + right, LARGEST_VOCABULARY) < made_next:
            return False
        left_id, right_id = ids[left], ids[right]
        if max(left_id, right_id) < FIRST_MERGE_ID:
            return True
        if left_id > right_id:
            made_next = left_id
            left = merges[left][1]
        else:
            made_next = right_id + 1
            right = merges[right][0]


def _shown(pieces: tuple[str, ...] | list[str]) -> str:
    return " ".join(repr(piece[:32]) for piece in pieces) or "missing"
