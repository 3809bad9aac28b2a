//! Reading columns into the house's types. What does not parse is reported, never guessed.

use portcullis_tenancy::store::Result;
use portcullis_tenancy::{StoreError, Timestamp};
use sqlx::Row;
use sqlx::any::AnyRow;

pub(crate) fn text(row: &AnyRow, column: &str) -> Result<String> {
    row.try_get(column).map_err(crate::sql::failed)
}

pub(crate) fn boxed(row: &AnyRow, column: &str) -> Result<Box<str>> {
    text(row, column).map(Into::into)
}

pub(crate) fn optional_text(row: &AnyRow, column: &str) -> Result<Option<String>> {
    row.try_get(column).map_err(crate::sql::failed)
}

pub(crate) fn number(row: &AnyRow, column: &str) -> Result<i64> {
    row.try_get(column).map_err(crate::sql::failed)
}

pub(crate) fn bytes(row: &AnyRow, column: &str) -> Result<Vec<u8>> {
    row.try_get(column).map_err(crate::sql::failed)
}

pub(crate) fn size(row: &AnyRow, column: &str) -> Result<u64> {
    parsed(column, number(row, column)?, u64::try_from)
}

pub(crate) fn optional_size(row: &AnyRow, column: &str) -> Result<Option<u64>> {
    let number: Option<i64> = row.try_get(column).map_err(crate::sql::failed)?;
    number.map(|number| parsed(column, number, u64::try_from)).transpose()
}

pub(crate) fn time(row: &AnyRow, column: &str) -> Result<Timestamp> {
    parsed(column, number(row, column)?, Timestamp::from_millisecond)
}

pub(crate) fn optional_time(row: &AnyRow, column: &str) -> Result<Option<Timestamp>> {
    let number: Option<i64> = row.try_get(column).map_err(crate::sql::failed)?;
    number.map(|number| parsed(column, number, Timestamp::from_millisecond)).transpose()
}

/// A text column by the type's own parser.
pub(crate) fn parse<T, E: std::fmt::Display>(
    row: &AnyRow,
    column: &str,
    parser: impl Fn(&str) -> std::result::Result<T, E>,
) -> Result<T> {
    let text = text(row, column)?;
    parsed(column, text.as_str(), parser)
}

/// A value by a parser, with the column's name where it fails.
pub(crate) fn parsed<V, T, E: std::fmt::Display>(
    column: &str,
    value: V,
    parser: impl Fn(V) -> std::result::Result<T, E>,
) -> Result<T> {
    parser(value).map_err(|error| StoreError::Unreadable(format!("{column}: {error}")))
}

/// A value that this version does not know.
pub(crate) fn unknown(column: &str, value: &str) -> StoreError {
    StoreError::Unreadable(format!("{column}: this version does not know {value:?}"))
}
