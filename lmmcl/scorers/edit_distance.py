"""How many letters two texts differ by."""


def edit_distance(first: str, second: str) -> int:
    """Levenshtein distance: the least number of letters to insert, delete or replace."""
    if len(first) > len(second):
        first, second = second, first
    row = list(range(len(first) + 1))
    for line, letter in enumerate(second, start=1):
        diagonal, row[0] = row[0], line
        for column, other in enumerate(first, start=1):
            step = diagonal if letter == other else 1 + min(diagonal, row[column], row[column - 1])
            diagonal, row[column] = row[column], step
    return row[-1]
