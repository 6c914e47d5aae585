//! The table: three columns of several lines each and a mark, at most 118 characters wide.

use std::fmt;

use anstyle::{AnsiColor, Style};

/// How wide the columns may become, so that the table fits 118 characters.
pub(super) const MAX_WIDTHS: [usize; 3] = [42, 30, 38];

/// Between two columns.
const GAP: &str = "  ";

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();
const TITLE: Style = Style::new().bold();
const DETAIL: Style = Style::new().dimmed();
const PLAIN: Style = Style::new();

/// Lines of text, one below the other.
pub(crate) type Cell = Vec<String>;

/// A table that grows row by row. It is displayed with colours; whoever writes it out strips them
/// where they are not wanted.
#[derive(Debug)]
pub(crate) struct Table {
    heads: [&'static str; 3],
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    cells: [Cell; 3],
    /// Why the row is not as expected.
    mismatch: Option<String>,
}

impl Table {
    /// An empty table.
    pub(crate) fn new(heads: [&'static str; 3]) -> Self {
        Self {
            heads,
            rows: Vec::new(),
        }
    }

    /// Adds a row. The first line of `sent` is its title; the error of `verdict` may have several lines.
    pub(crate) fn push(&mut self, sent: Cell, decision: Cell, upstream: Cell, verdict: Result<(), String>) {
        let [a, b, c] = MAX_WIDTHS;
        let cells = [wrapped(&sent, a), wrapped(&decision, b), wrapped(&upstream, c)];
        self.rows.push(Row {
            cells,
            mismatch: verdict.err(),
        });
    }

    fn widths(&self) -> [usize; 3] {
        std::array::from_fn(|column| {
            let lines = self.rows.iter().filter_map(|row| row.cells.get(column)).flatten();
            let head = self.heads.get(column).map_or(0, |head| width(head));
            lines.map(|line| width(line)).fold(head, usize::max)
        })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        line(f, ("", PLAIN), widths, self.heads, [TITLE; 3])?;
        for row in &self.rows {
            row.write(f, widths)?;
        }
        Ok(())
    }
}

impl Row {
    fn write(&self, f: &mut fmt::Formatter<'_>, widths: [usize; 3]) -> fmt::Result {
        let (mark, style) = if self.mismatch.is_none() {
            ("ok", GOOD)
        } else {
            ("!!", BAD)
        };
        let height = self.cells.iter().map(Vec::len).max().unwrap_or(0);
        for at in 0..height {
            let texts = self
                .cells
                .each_ref()
                .map(|cell| cell.get(at).map_or("", String::as_str));
            match at {
                0 => line(f, (mark, style), widths, texts, [TITLE, style, PLAIN])?,
                _ => line(f, ("", PLAIN), widths, texts, [DETAIL, DETAIL, PLAIN])?,
            }
        }
        for (at, reason) in self.mismatch.iter().flat_map(|reasons| reasons.lines()).enumerate() {
            let label = if at == 0 {
                "NOT AS EXPECTED:"
            } else {
                "            and:"
            };
            writeln!(f, "    {BAD}{label}{BAD:#} {reason}")?;
        }
        Ok(())
    }
}

/// Writes one line without spaces at its end.
fn line(
    f: &mut fmt::Formatter<'_>,
    (mark, mark_style): (&str, Style),
    widths: [usize; 3],
    texts: [&str; 3],
    styles: [Style; 3],
) -> fmt::Result {
    let columns = [(mark, mark_style, 2)].into_iter();
    let columns = columns.chain(texts.into_iter().zip(styles).zip(widths).map(|((t, s), w)| (t, s, w)));
    let mut owed = String::new();
    for (text, style, column) in columns {
        if !text.is_empty() {
            write!(f, "{owed}{style}{text}{style:#}")?;
            owed.clear();
        }
        owed.push_str(&" ".repeat(column.saturating_sub(width(text))));
        owed.push_str(GAP);
    }
    writeln!(f)
}

/// Breaks lines that are too long, at a space where there is one, and indents what was broken off.
fn wrapped(cell: &[String], max: usize) -> Cell {
    let mut lines = Vec::new();
    for line in cell {
        let mut rest: Vec<char> = line.chars().collect();
        while rest.len() > max {
            let space = rest
                .iter()
                .take(max)
                .rposition(|c| *c == ' ')
                .filter(|at| *at > max / 2);
            let tail = rest.split_off(space.unwrap_or(max));
            lines.push(rest.into_iter().collect());
            rest = "  ".chars().chain(tail.into_iter().skip_while(|c| *c == ' ')).collect();
        }
        lines.push(rest.into_iter().collect());
    }
    lines
}

/// The texts of the demo have no wide and no combining characters.
fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(lines: &[&str]) -> Cell {
        lines.iter().map(ToString::to_string).collect()
    }

    fn plain(table: &Table) -> String {
        anstream::adapter::strip_str(&table.to_string()).to_string()
    }

    #[test]
    fn columns_are_aligned_and_lines_end_without_spaces() {
        let mut table = Table::new(["SENT", "DECISION", "SEEN"]);
        table.push(
            cell(&["a request", "  GET /"]),
            cell(&["forwarded"]),
            cell(&["x: 1", "y: 2"]),
            Ok(()),
        );
        table.push(cell(&["no"]), cell(&["401 NO"]), cell(&["nothing"]), Ok(()));
        assert_eq!(
            plain(&table),
            "    SENT       DECISION   SEEN\n\
             ok  a request  forwarded  x: 1\n      \
                   GET /               y: 2\n\
             ok  no         401 NO     nothing\n"
        );
    }

    #[test]
    fn a_mismatch_says_every_reason_below_its_row() {
        let mut table = Table::new(["SENT", "DECISION", "SEEN"]);
        let why = Err("status is 200\nno body".to_owned());
        table.push(cell(&["a"]), cell(&["b"]), cell(&["c"]), why);
        assert_eq!(
            plain(&table).lines().skip(1).collect::<Vec<_>>(),
            [
                "!!  a     b         c",
                "    NOT AS EXPECTED: status is 200",
                "                and: no body",
            ]
        );
    }

    #[test]
    fn long_lines_are_broken_and_nothing_is_lost() {
        let mut table = Table::new(["SENT", "DECISION", "SEEN"]);
        let (word, words) = ("x".repeat(100), "some words ".repeat(10));
        table.push(vec![word.clone()], vec![words.clone()], vec![word.clone()], Ok(()));
        let text = plain(&table);
        assert!(text.lines().all(|line| width(line) <= 118), "{text}");
        assert_eq!(text.matches('x').count(), 200);
        assert_eq!(text.matches("some").count(), 10);
        assert_eq!(text.matches("words").count(), 10);
    }

    #[test]
    fn marks_are_coloured_by_verdict() {
        for (verdict, style) in [(Ok(()), GOOD), (Err("why".to_owned()), BAD)] {
            let mut table = Table::new(["SENT", "DECISION", "SEEN"]);
            table.push(cell(&["a"]), cell(&["b"]), cell(&["c"]), verdict);
            assert!(table.to_string().contains(&format!("{style}b{style:#}")));
        }
    }
}
