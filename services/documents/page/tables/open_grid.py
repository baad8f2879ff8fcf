"""Tables of a text layer that no lines rule, or only lines between rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from statistics import median
from typing import Final

from switchyard.services.documents.page.lines import Line, Table
from switchyard.services.documents.page.paragraphs import BULLET, NUMBER
from switchyard.services.documents.page.tables import cell_by_cell, close_columns, rule_per_row, three_rules
from switchyard.services.documents.page.tables.aligned import (
    LABEL_CHARS,
    find_tables,
    may_be_within,
    table_of,
)
from switchyard.services.documents.page.tables.grid import Rule
from switchyard.services.documents.page.tables.rows import Row, Word

MIN_ROWS: Final = 3
MIN_RULED_ROWS: Final = 2
ITEM_CELLS: Final = 2  # its mark and its text
SAME_LINE: Final = 0.5  # of the lower line's height
SAME_END: Final = 4.0  # points within which lines on the page end at the same place
MAX_SETS: Final = 100
MOST_WIDE: Final = 0.5  # of a table: lines beside a label that stands for several rows
MIN_BESIDE: Final = 3
HEADER_NEAR: Final = 2.0  # of the size, above the line below a header
LABEL_HEIGHT: Final = 3.5  # of the size, between the lines above and below a label
SHADED: Final = 4  # lines, as of two boxes
SAME_PITCH: Final = 1.1
SHORT: Final = 40  # characters of a line that may be a cell
SEVERAL: Final = 0.5  # of the rows between two lines, with several cells


def tables(
    lines: Sequence[Line], across: Sequence[Rule] = (), *, code: bool = False, min_rows: int = MIN_ROWS
) -> list[Table]:
    """The tables among lines in the order of the page's content.

    Args:
        lines: which are in no ruled table.
        across: lines drawn across the page, from the top.
        code: whether what is in a font of one width is code, which has columns as well.
        min_rows: the least of a table without lines.
    """
    upright = [line for line in lines if not line.upended]
    found: list[Table] = []
    for rules in _sets(across):
        free = [line for line in upright if not any(table.holds(line) for table in found)]
        if code and all(line.is_code for line in free if rules[0].at < line.top < rules[-1].at):
            continue
        found += _by(rules, free, across)
    free = [line for line in upright if not any(table.holds(line) for table in found)]
    rows = [row for row in _rows(free) if not _is_item(row)]
    listings = {(line.left, line.top) for line in free if code and line.is_code}
    aligned = list(find_tables(rows, across, min_rows=min_rows))
    whole = cell_by_cell.joined(rows)
    aligned = _better(find_tables(whole, across, min_rows=min_rows, wrapped=True), aligned)
    aligned = _better(close_columns.tables(whole, across), aligned)
    aligned += _in_any_order(
        [line for line in free if not any(table.holds(line) for table in aligned)], across, min_rows
    )
    return [*found, *(table for table in aligned if table.lines is None or not table.lines <= listings)]


def _in_any_order(lines: Sequence[Line], across: Sequence[Rule], min_rows: int) -> Iterator[Table]:
    """Tables of short cells, surely some, that were not written row by row, such as column by column."""
    rows = [row for row in stacked([line for line in lines if len(line.text) <= SHORT]) if not _is_item(row)]
    for table in find_tables(rows, across, min_rows=min_rows, wrapped=True):
        taken = table.lines or frozenset()
        if not any(_reaches(line, table) for line in lines if (line.left, line.top) not in taken):
            yield table


def _reaches(line: Line, table: Table) -> bool:
    """Whether a line of text reaches into a table."""
    across = line.left < table.right and line.right > table.left
    return across and table.top < (line.top + line.bottom) / 2 < table.bottom


def _better(tables: Iterable[Table], than: Sequence[Table]) -> list[Table]:
    """Tables, and the others that share nothing with those that hold more, or the same in more columns."""
    found = list(than)
    for table in tables:
        others = [other for other in found if (other.lines or frozenset()) & (table.lines or frozenset())]
        columns = max((len(other.columns) for other in others), default=0)
        more = (len(table.columns), _line_count([table])) > (columns, _line_count(others))
        if len(table.columns) >= columns and _line_count([table]) >= _line_count(others) and more:
            found = [table, *(other for other in found if other not in others)]
    return found


def _line_count(tables: Iterable[Table]) -> int:
    """How many lines of text tables have."""
    return sum(len(table.lines or ()) for table in tables)


def _by(rules: Sequence[Rule], lines: Sequence[Line], across: Sequence[Rule]) -> list[Table]:
    """The tables by lines that start and end at the same places, in the way that finds most of them."""
    left, right = rules[0].start - SAME_END, rules[0].end + SAME_END
    within = stacked([line for line in lines if left <= line.left and line.right <= right])
    by_rows = list(rule_per_row.tables(rules, within))
    if by_rows and rule_per_row.are_several(rules, within):
        return by_rows
    return max(
        list(_between(rules, lines, across)),
        _with_wrapped_cells(rules, lines, within),
        by_rows,
        key=_line_count,
    )


def _sets(across: Sequence[Rule]) -> list[list[Rule]]:
    """Lines that start and end at the same places, as the rules of a table do."""
    sets: list[list[Rule]] = []
    for rule in across:
        for known in sets:
            if abs(known[0].start - rule.start) <= SAME_END and abs(known[0].end - rule.end) <= SAME_END:
                known.append(rule)
                break
        else:
            if len(sets) < MAX_SETS:
                sets.append([rule])
    return _with_labels([rules for rules in sets if len(rules) > 1])


def _with_labels(sets: Sequence[list[Rule]]) -> list[list[Rule]]:
    """Sets of lines, in one those of a table that leave out a label for several rows at its side."""
    whole = [one for one in sets if not any(_are_beside_label(one, wide) for wide in sets)]
    found: list[list[Rule]] = []
    for one in sets:
        if one in whole:
            rules = [rule for other in sets if _are_beside_label(other, one) for rule in other]
            added = [Rule(rule.at, one[0].start, one[0].end) for rule in rules]
            found.append(sorted([*one, *added], key=lambda rule: rule.at))
        elif not any(_are_beside_label(one, wide) for wide in whole):
            found.append(one)
    return found


def _are_beside_label(rules: Sequence[Rule], wide: Sequence[Rule]) -> bool:
    """Whether lines end with wider ones on one side, and are more than these, among them."""
    (start, end), (left, right) = (rules[0].start, rules[0].end), (wide[0].start, wide[0].end)
    one_side = (abs(start - left) <= SAME_END) != (abs(end - right) <= SAME_END)
    within = (
        left - SAME_END <= start and end <= right + SAME_END and end - start >= (right - left) * MOST_WIDE
    )
    among = all(wide[0].at < rule.at < wide[-1].at for rule in rules)
    return one_side and within and among and len(rules) >= max(MIN_BESIDE, len(wide))


def _between(rules: Sequence[Rule], lines: Sequence[Line], across: Sequence[Rule]) -> Iterator[Table]:
    """Tables between the first and the last of lines in succession, with rows of cells between each two."""
    left, right = rules[0].start, rules[0].end
    within = [line for line in lines if line.left >= left - SAME_END and line.right <= right + SAME_END]
    run: list[Row] = []
    for upper, lower in pairwise(rules):
        rows = stacked([line for line in within if upper.at <= (line.top + line.bottom) / 2 < lower.at])
        several = sum(len(row.chunks) > 1 and not _is_item(row) for row in rows)
        near = bool(run) and lower.at - upper.at <= run[-1].size * LABEL_HEIGHT
        is_label = len(rows) == 1 and near and may_be_within(run, rows[0])
        is_table = bool(rows) and several >= len(rows) * SEVERAL
        if is_table or is_label or (near and not rows):
            run += rows
        else:
            yield from _made(run, across)
            run = []
    below = [line for line in within if (line.top + line.bottom) / 2 > rules[-1].at]
    if len(rules) >= SHADED and len(run) >= MIN_ROWS and below and _goes_on(run, row := stacked(below)[0]):
        run.append(row)
    yield from _made(run, across)


def _with_wrapped_cells(rules: Sequence[Rule], lines: Sequence[Line], within: Sequence[Row]) -> list[Table]:
    """The one table between the first and the last of lines, which has more lines than rows.

    Args:
        rules: the lines.
        lines: those of text.
        within: those of them that stand where the lines start and end, as rows.
    """
    left, right = rules[0].start - SAME_END, rules[0].end + SAME_END
    rows = [row for row in within if rules[0].at <= row.middle < rules[-1].at]
    if len(rules) < three_rules.MIN_RULES:
        above = [row for row in within if 0 < rules[0].at - row.middle <= row.size * HEADER_NEAR]
        below = [row for row in within if row.middle >= rules[-1].at]
        if 0 < len(rows) <= three_rules.HEADER_ROWS and below:  # the table continues on the next page
            if any(
                line.bottom > below[0].top and not left <= line.left < line.right <= right for line in lines
            ):
                return []
            rows = [*rows, *below]
            rules = [*rules, Rule(below[-1].bottom, rules[0].start, rules[0].end)]
        elif above:  # no line above the header
            rows = [*above[-1:], *rows]
            rules = [Rule(above[-1].top, rules[0].start, rules[0].end), *rules]
        else:
            return []
    table = three_rules.table(rules, rows)
    return [table] if table is not None else []


def _goes_on(rows: Sequence[Row], row: Row) -> bool:
    """Whether a row below the last line is at the same distance: of shaded rows the last may be plain."""
    pitch = median(after.top - before.top for before, after in pairwise(rows)) * SAME_PITCH
    near = row.top - rows[-1].top <= pitch and row.top - rows[-1].bottom <= row.size * LABEL_HEIGHT
    return near and len(row.chunks) >= len(rows[-1].chunks) and not _is_item(row)


def _made(rows: Sequence[Row], across: Sequence[Rule]) -> Iterator[Table]:
    rows = list(rows)
    above: Row | None = None
    while rows and (_is_prose(rows[0]) or (above is not None and _ends(above, rows[0]))):
        above = rows.pop(0)
    while rows and _is_prose(rows[-1]):
        rows.pop()
    table = table_of(rows, (), across, min_rows=MIN_RULED_ROWS) if rows else None
    if table is not None:
        yield table


def _is_prose(row: Row) -> bool:
    """Whether it is a line of text too long to be a label of rows."""
    return len(row.chunks) == 1 and sum(len(word.text) + 1 for word in row.words) > LABEL_CHARS


def _ends(prose: Row, row: Row) -> bool:
    """Whether it is the last line of a paragraph."""
    return len(row.chunks) == 1 and abs(row.left - prose.left) <= row.size / 2


def stacked(lines: Sequence[Line]) -> list[Row]:
    """Lines as rows from the top, those at the same height being one."""
    groups: list[list[Line]] = []
    for line in sorted(lines, key=lambda line: (line.top + line.bottom) / 2):
        if groups and _overlap(groups[-1][-1], line):
            groups[-1].append(line)
        else:
            groups.append([line])
    return [_row(sorted(group, key=lambda line: line.left)) for group in groups]


def _rows(lines: Sequence[Line]) -> Iterator[Row]:
    """Lines that are next to each other as one row."""
    row: list[Line] = []
    for line in lines:
        if row and not (_overlap(row[-1], line) and line.left > row[-1].right):
            yield _row(row)
            row = []
        row.append(line)
    if row:
        yield _row(row)


def _overlap(before: Line, after: Line) -> bool:
    overlap = min(before.bottom, after.bottom) - max(before.top, after.top)
    height = min(before.bottom - before.top, after.bottom - after.top)
    return overlap > height * SAME_LINE


def _row(lines: Sequence[Line]) -> Row:
    words: list[Word] = []
    for word in (word for line in lines for word in line.words):
        if word.glued and words:
            words[-1] = Word(f"{words[-1].text}{word.text}", words[-1].left, word.right)
        else:
            words.append(Word(word.text, word.left, word.right))
    return Row(
        tuple(words) or tuple(Word(line.text, line.left, line.right) for line in lines),
        min(line.top for line in lines), max(line.bottom for line in lines), lines[0].size, starts=False,
        lines=frozenset((line.left, line.top) for line in lines),
    )  # fmt: skip


def _is_item(row: Row) -> bool:
    """Whether it is a list's item, whose mark stands apart from its text."""
    text = f"{row.words[0].text} x"
    marked = BULLET.match(text) is not None or NUMBER.match(text) is not None
    return marked and len(row.chunks) <= ITEM_CELLS
