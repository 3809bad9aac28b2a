//! Tables for people: as wide as they must be, no wider than the terminal, nothing cut off.

/// How a column behaves where the terminal is too narrow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    /// Keeps its width: names and ids, which are copied.
    Whole(&'static str),
    /// Goes on in the next line.
    Wraps(&'static str),
}

const GAP: &str = "  ";
/// Narrower, a column that wraps is of no use.
const NARROWEST: usize = 8;

impl Column {
    const fn title(self) -> &'static str {
        match self {
            Self::Whole(title) | Self::Wraps(title) => title,
        }
    }
}

/// Lays rows out under their titles. Every row has as many cells as there are columns.
pub(super) fn render(columns: &[Column], rows: &[Vec<String>], width: Option<usize>) -> String {
    let titles: Vec<String> = columns.iter().map(|column| column.title().to_owned()).collect();
    let lines: Vec<&Vec<String>> = std::iter::once(&titles).chain(rows).collect();
    let natural = (0..columns.len())
        .map(|place| lines.iter().filter_map(|row| row.get(place)).map(|cell| length(cell)).max().unwrap_or(0));
    let widths = fit(columns, natural.collect(), width.unwrap_or(usize::MAX));
    lines.iter().map(|row| render_row(row, &widths)).collect()
}

/// Takes from the widest column that wraps until all fit, or nothing more can be taken.
fn fit(columns: &[Column], mut widths: Vec<usize>, most: usize) -> Vec<usize> {
    loop {
        let gaps = widths.len().saturating_sub(1).saturating_mul(GAP.len());
        let total = widths.iter().fold(gaps, |sum, width| sum.saturating_add(*width));
        let wrapping = widths
            .iter_mut()
            .zip(columns)
            .filter(|(width, column)| matches!(column, Column::Wraps(_)) && **width > NARROWEST);
        match wrapping.max_by_key(|(width, _)| **width) {
            Some((widest, _)) if total > most => *widest = widest.saturating_sub(1),
            _ => return widths,
        }
    }
}

fn render_row(row: &[String], widths: &[usize]) -> String {
    let cells: Vec<Vec<String>> = row.iter().zip(widths).map(|(cell, width)| wrap(cell, *width)).collect();
    let height = cells.iter().map(Vec::len).max().unwrap_or(0);
    let mut text = String::new();
    for line in 0..height {
        let parts = cells
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{:width$}", cell.get(line).map_or("", String::as_str)));
        text.push_str(parts.collect::<Vec<_>>().join(GAP).trim_end());
        text.push('\n');
    }
    text
}

/// Breaks at the last space that fits, or in the middle of a word where there is none.
fn wrap(cell: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = Vec::new();
    let mut rest: Vec<char> = cell.chars().collect();
    while rest.len() > width {
        let space = rest.iter().take(width.saturating_add(1)).rposition(|c| *c == ' ').filter(|place| *place > 0);
        let tail = rest.split_off(space.unwrap_or(width));
        lines.push(rest.into_iter().collect());
        rest = tail.into_iter().skip(usize::from(space.is_some())).collect();
    }
    lines.push(rest.into_iter().collect());
    lines
}

fn length(cell: &str) -> usize {
    cell.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] = [Column::Whole("NAME"), Column::Wraps("MAY"), Column::Wraps("FROM")];

    fn row(cells: [&str; 3]) -> Vec<String> {
        cells.map(str::to_owned).to_vec()
    }

    #[test]
    fn a_narrow_table_is_no_wider_than_it_must_be() {
        let text = render(&COLUMNS, &[row(["acme+ci", "pull", "anywhere"])], Some(80));
        assert_eq!(text, "NAME     MAY   FROM\nacme+ci  pull  anywhere\n");
    }

    #[test]
    fn a_wide_table_fits_80_columns_and_loses_nothing() {
        let grants =
            ["acme/**=pull,push", "globex/base-images/*=pull", &format!("acme/{}=pull", "x".repeat(120))].join(" ");
        let networks = "10.0.0.0/8 192.0.2.0/24 2001:db8::/32 198.51.100.7/32";
        let rows = [row(["acme+continuous-integration", &grants, networks]), row(["acme+x", "", "anywhere"])];
        let text = render(&COLUMNS, &rows, Some(80));
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        for letter in ['x', 'b', '8', '='] {
            let wanted = rows.iter().flatten().flat_map(|cell| cell.chars()).filter(|c| *c == letter).count();
            assert_eq!(text.chars().filter(|c| *c == letter).count(), wanted, "{letter}");
        }
    }

    #[test]
    fn without_a_terminal_every_row_is_one_line() {
        let text = render(&COLUMNS, &[row(["a", &"word ".repeat(50), "b"])], None);
        assert_eq!(text.lines().count(), 2);
    }

    #[test]
    fn a_terminal_too_narrow_for_the_names_still_shows_them_whole() {
        let text = render(&COLUMNS, &[row(["acme+continuous-integration", "pull", "anywhere"])], Some(10));
        assert!(text.contains("acme+continuous-integration"));
    }
}
