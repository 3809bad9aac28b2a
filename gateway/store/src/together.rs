//! Statements that go to the database in one go: what a write takes is mostly the ways there and back.

use crate::sql::{Query, failure};
use portcullis_tenancy::store::Result;
use sqlx::any::{Any, AnyArguments};
use sqlx::{AssertSqlSafe, Execute, query_with};
use std::fmt::Write as _;

/// How a database takes several statements at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Joined {
    /// One after another: SQLite.
    Listed,
    /// As parts of the last one, all of which see what was there before: PostgreSQL prepares one statement at a time.
    Within,
}

/// One statement of several. None may need what another one does or says, and no two change one row.
pub(crate) fn together(statements: Vec<Query<'_>>, joined: Joined) -> Result<Query<'static>> {
    let (mut sql, mut arguments, mut is_kept) = (String::new(), AnyArguments::default(), true);
    let mut left = statements.len();
    for (number, mut statement) in statements.into_iter().enumerate() {
        left = left.saturating_sub(1);
        is_kept &= Execute::<Any>::persistent(&statement);
        let own = Execute::<Any>::take_arguments(&mut statement).map_err(failure)?.unwrap_or_default();
        let text = Execute::<Any>::sql(statement);
        let given = arguments.values.0.len();
        match joined {
            Joined::Listed => {
                renumber(&mut sql, text.as_str(), given);
                sql.push_str(if left == 0 { "" } else { "; " });
            }
            Joined::Within if left == 0 => {
                sql.push(' ');
                renumber(&mut sql, text.as_str(), given);
            }
            Joined::Within => {
                let _ = write!(sql, "{} part{number} AS (", if number == 0 { "WITH" } else { "," });
                renumber(&mut sql, text.as_str(), given);
                sql.push(')');
            }
        }
        arguments.values.0.extend(own.values.0);
    }
    Ok(query_with(AssertSqlSafe(sql), arguments).persistent(is_kept))
}

/// Writes a statement with its `$1, $2, …` counted on from those before.
fn renumber(sql: &mut String, text: &str, given: usize) {
    let mut parts = text.split('$');
    sql.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let end = part.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(part.len());
        let (number, rest) = part.split_at_checked(end).unwrap_or((part, ""));
        let number = number.parse::<usize>().unwrap_or_default().saturating_add(given);
        let _ = write!(sql, "${number}{rest}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::query;

    #[test]
    fn arguments_are_counted_on_in_either_way() {
        let statements = || -> Vec<Query<'static>> {
            vec![query("A $1 $2").bind(1_i64).bind("x"), query("B $1, $1").bind(2_i64), query("C $2").bind(3_i64)]
        };
        let text = |joined| Execute::<Any>::sql(together(statements(), joined).unwrap()).as_str().to_owned();
        assert_eq!(text(Joined::Listed), "A $1 $2; B $3, $3; C $5");
        assert_eq!(text(Joined::Within), "WITH part0 AS (A $1 $2), part1 AS (B $3, $3) C $5");
        let mut all = together(statements(), Joined::Listed).unwrap();
        let arguments = Execute::<Any>::take_arguments(&mut all).unwrap().unwrap();
        assert_eq!(arguments.values.0.len(), 4);
        let alone = together(vec![query("A $1").bind(1_i64)], Joined::Within).unwrap();
        assert_eq!(Execute::<Any>::sql(alone).as_str(), " A $1");
    }
}
