//! Rows of the audit trail as they are, whatever somebody has written into them. What cannot be read is shown as far as it can, and
//! is marked: nobody vouches for it, and it keeps nobody from reading the others.

use crate::sql::{Query, SqlStore};
use portcullis_tenancy::Timestamp;
use portcullis_tenancy::store::{Result, StoreError};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row, query};
use std::cell::Cell;

/// Stands where something cannot be read: no name or id of ours has it.
const UNREADABLE: &str = "\u{fffd}";

/// Longest text that is read, in bytes: none of ours is nearly so long.
pub(super) const MAX_TEXT: usize = 4096;
/// Letters that are shown of a longer one.
const SHOWN: usize = 200;
/// Stands behind one that was shortened: no text of ours has it.
pub(super) const SHORTENED: char = '\u{1a}';

/// How a row's cells come.
#[derive(Clone, Copy)]
enum Form {
    Plain,
    /// Each as its type and its bytes in hexadecimal digits.
    Hexadecimal,
}

/// What is asked of each row.
#[derive(Clone, Copy)]
pub(super) struct Column {
    pub(super) expression: &'static str,
    pub(super) name: &'static str,
    pub(super) is_text: bool,
}

impl Column {
    pub(super) const fn text(name: &'static str) -> Self {
        Self { expression: name, name, is_text: true }
    }

    pub(super) const fn number(name: &'static str) -> Self {
        Self { expression: name, name, is_text: false }
    }
}

/// One row.
pub(super) struct Cells<'r> {
    row: &'r AnyRow,
    form: Form,
    is_spoiled: Cell<bool>,
}

/// Reads rows. SQLite keeps any bytes as text, and such a row does not come at all: then all are asked for in a form in which they do.
pub(super) async fn rows<T>(
    store: &SqlStore,
    columns: &[Column],
    rest: &str,
    bind: impl Fn(Query<'static>) -> Query<'static>,
    read: impl Fn(&Cells<'_>) -> T,
) -> Result<Vec<T>> {
    let ask = |form| {
        let columns: Vec<String> = columns.iter().map(|column| form_of(form, store.is_sqlite(), column)).collect();
        let sql = format!("SELECT {} {rest}", columns.join(", "));
        let read = &read;
        let asked = bind(query(AssertSqlSafe(sql)));
        async move { store.all(asked, |row| Ok(read(&Cells { row, form, is_spoiled: Cell::new(false) }))).await }
    };
    match ask(Form::Plain).await {
        Err(StoreError::Unreadable(_)) if store.is_sqlite() => ask(Form::Hexadecimal).await,
        rows => rows,
    }
}

/// Too long a text is cut before it comes: it may be longer than memory.
fn form_of(form: Form, is_sqlite: bool, column: &Column) -> String {
    let Column { expression, name, is_text } = *column;
    // Of a text, SQLite's `length` sees no further than to a zero byte.
    let length =
        if is_sqlite { format!("length(CAST({expression} AS BLOB))") } else { format!("octet_length({expression})") };
    let value = if is_text {
        format!(
            "CASE WHEN {length} > {MAX_TEXT} THEN substr({expression}, 1, {SHOWN}) || '{SHORTENED}' ELSE {expression} END"
        )
    } else {
        expression.to_owned()
    };
    match form {
        Form::Plain => format!("{value} AS {name}"),
        Form::Hexadecimal => format!("typeof({expression}) || ' ' || hex({value}) AS {name}"),
    }
}

/// What a cell holds that is neither text nor a number; its text, as far as there is one.
struct Strange(String);

impl Cells<'_> {
    /// A text that is always there.
    pub(super) fn text(&self, column: &str) -> Box<str> {
        self.optional(column).unwrap_or_else(|| self.spoiled(UNREADABLE.into()))
    }

    /// A text that may be missing.
    pub(super) fn optional(&self, column: &str) -> Option<Box<str>> {
        match self.string(column) {
            Ok(Some(text)) if text.ends_with(SHORTENED) => {
                Some(self.spoiled(text.replace(SHORTENED, UNREADABLE).into()))
            }
            Ok(text) => text.map(String::into_boxed_str),
            Err(Strange(text)) => Some(self.spoiled(text.into())),
        }
    }

    /// A number that is not negative and always there.
    pub(super) fn size(&self, column: &str) -> Option<u64> {
        let size = self.number(column).ok().flatten().and_then(|number| u64::try_from(number).ok());
        size.or_else(|| self.spoiled(None))
    }

    /// A number that is above zero, or missing.
    pub(super) fn place(&self, column: &str) -> Option<u64> {
        match self.number(column) {
            Ok(None) => None,
            Ok(Some(number)) if number > 0 => u64::try_from(number).ok(),
            _ => self.spoiled(None),
        }
    }

    /// A time.
    pub(super) fn time(&self, column: &str) -> Timestamp {
        let Ok(Some(number)) = self.number(column) else { return self.spoiled(Timestamp::MIN) };
        let far = if number < 0 { Timestamp::MIN } else { Timestamp::MAX };
        Timestamp::from_millisecond(number).unwrap_or_else(|_| self.spoiled(far))
    }

    /// A text that has a form; where it has not, what stands for it.
    pub(super) fn parsed<T, E>(&self, text: &str, parse: impl Fn(&str) -> std::result::Result<T, E>, or: T) -> T {
        parse(text).unwrap_or_else(|_| self.spoiled(or))
    }

    /// Whether something could not be read.
    pub(super) fn is_spoiled(&self) -> bool {
        self.is_spoiled.get()
    }

    fn spoiled<T>(&self, shown: T) -> T {
        self.is_spoiled.set(true);
        shown
    }

    fn string(&self, column: &str) -> std::result::Result<Option<String>, Strange> {
        if let Form::Plain = self.form {
            return self.row.try_get(column).map_err(|_| Strange(UNREADABLE.into()));
        }
        match self.bytes(column) {
            Some((kind, _)) if kind == "null" => Ok(None),
            Some((kind, bytes)) if kind == "text" => match String::from_utf8(bytes) {
                Ok(text) => Ok(Some(text)),
                Err(error) => Err(Strange(String::from_utf8_lossy(error.as_bytes()).into_owned())),
            },
            Some((_, bytes)) => Err(Strange(format!("{UNREADABLE}{}", String::from_utf8_lossy(&bytes)))),
            None => Err(Strange(UNREADABLE.into())),
        }
    }

    fn number(&self, column: &str) -> std::result::Result<Option<i64>, ()> {
        if let Form::Plain = self.form {
            return self.row.try_get(column).map_err(|_| ());
        }
        match self.bytes(column).ok_or(())? {
            (kind, _) if kind == "null" => Ok(None),
            (kind, digits) if kind == "integer" => {
                std::str::from_utf8(&digits).ok().and_then(|digits| digits.parse().ok()).map(Some).ok_or(())
            }
            _ => Err(()),
        }
    }

    /// A cell's type, and its bytes.
    fn bytes(&self, column: &str) -> Option<(String, Vec<u8>)> {
        let cell: String = self.row.try_get(column).ok()?;
        let (kind, digits) = cell.split_once(' ')?;
        let pair = |pair: &[u8]| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
        Some((kind.to_owned(), digits.as_bytes().chunks(2).map(pair).collect::<Option<_>>()?))
    }
}
