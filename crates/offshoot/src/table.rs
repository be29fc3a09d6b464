//! Text in columns.

use std::fmt;

/// Which side the cells of a column keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Rows whose cells are padded to the same width, two spaces apart.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    aligns: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with a header.
    pub(crate) fn new<const COLUMNS: usize>(header: [(&str, Align); COLUMNS]) -> Self {
        Self {
            aligns: header.iter().map(|(_, align)| *align).collect(),
            rows: vec![header.iter().map(|(title, _)| (*title).to_owned()).collect()],
        }
    }

    /// Adds a row.
    pub(crate) fn push<const COLUMNS: usize>(&mut self, row: [String; COLUMNS]) {
        debug_assert_eq!(COLUMNS, self.aligns.len());
        self.rows.push(row.into());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.aligns.len()).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, align), width) in row.iter().zip(&self.aligns).zip(&widths) {
                let padding = " ".repeat(width - cell.chars().count());
                line += &match align {
                    Align::Left => format!("{cell}{padding}  "),
                    Align::Right => format!("{padding}{cell}  "),
                };
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new([("NAME", Align::Left), ("SIZE", Align::Right), ("STATE", Align::Left)]);
        table.push(["größe".into(), "10G".into(), "ok".into()]);
        table.push(["a".into(), "512".into(), String::new()]);
        let expected = "NAME   SIZE  STATE\ngröße   10G  ok\na       512\n";
        assert_eq!(table.to_string(), expected);
    }
}
