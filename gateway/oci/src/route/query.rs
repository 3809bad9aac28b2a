//! Query strings, read strictly and written from parsed parts alone.

use super::path::{digest as parse_digest, tag as parse_tag, unsupported};
use super::{Operation, Page, UploadStart};
use crate::error::Excerpt;
use crate::{Digest, ErrorCode, ProtocolError, Reference, RepositoryName, Tag};
use http::StatusCode;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::borrow::Cow;

/// Most bytes of a query.
const MAX_QUERY_BYTES: usize = 8192;
/// Most tags that one push sets.
const MAX_TAGS: usize = 64;
/// Most bytes of `last`.
const MAX_LAST_BYTES: usize = 512;
/// Most bytes of `artifactType`.
const MAX_ARTIFACT_TYPE_BYTES: usize = 255;

/// For endpoints without parameters: all are dropped, and what nobody may send is refused all the same.
pub fn none(query: Option<&str>) -> Result<(), ProtocolError> {
    let [] = parameters(query, [])?;
    Ok(())
}

/// `n` and `last`.
pub fn page(query: Option<&str>) -> Result<Page, ProtocolError> {
    let [n, last] = parameters(query, ["n", "last"])?;
    let n = match n {
        None => None,
        Some(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(text.parse().map_err(|_| no_number(&text))?)
        }
        Some(text) => return Err(no_number(&text)),
    };
    let last = last.filter(|last| !last.is_empty());
    if last.as_ref().is_some_and(|last| last.len() > MAX_LAST_BYTES || last.contains(char::is_control)) {
        return Err(refused("`last` is a position in a list: at most 512 bytes, without control characters"));
    }
    Ok(Page { n, last: last.map(Cow::into_owned) })
}

/// `artifactType` and `last`; empty is none.
pub fn referrers(query: Option<&str>) -> Result<(Option<String>, Option<Digest>), ProtocolError> {
    let [artifact_type, last] =
        parameters(query, ["artifactType", "last"])?.map(|value| value.filter(|text| !text.is_empty()));
    if let Some(text) = &artifact_type
        && (text.len() > MAX_ARTIFACT_TYPE_BYTES || !text.bytes().all(|byte| matches!(byte, b' '..=b'~')))
    {
        return Err(refused("`artifactType` is a media type: printable ASCII, at most 255 bytes"));
    }
    let last = last.map(|last| parse_digest(&last)).transpose()?;
    Ok((artifact_type.map(Cow::into_owned), last))
}

/// `digest`, `mount` and `from`.
pub fn upload_start(query: Option<&str>) -> Result<UploadStart, ProtocolError> {
    let [digest, mount, from] = parameters(query, ["digest", "mount", "from"])?;
    match (digest, mount) {
        (None, None) => Ok(UploadStart::Session),
        (Some(digest), None) => Ok(UploadStart::Monolithic(parse_digest(&digest)?)),
        (None, Some(mount)) => {
            let from = from.and_then(|from| RepositoryName::parse(&from).ok());
            Ok(UploadStart::Mount { digest: parse_digest(&mount)?, from })
        }
        (Some(_), Some(_)) => Err(refused("an upload starts with `digest` or with `mount`, not with both")),
    }
}

/// `digest`, which has to be there.
pub fn digest(query: Option<&str>) -> Result<Digest, ProtocolError> {
    let [digest] = parameters(query, ["digest"])?;
    let missing =
        || ProtocolError::new(ErrorCode::DigestInvalid, "an upload ends with the blob's digest: add `?digest=`");
    parse_digest(&digest.ok_or_else(missing)?)
}

/// The tags that a push sets: its reference's, or every `tag`.
pub fn tags(query: Option<&str>, reference: &Reference) -> Result<Vec<Tag>, ProtocolError> {
    let mut tags = Vec::new();
    for pair in pairs(query)? {
        let (name, value) = pair?;
        if name != "tag" {
            continue;
        }
        let tag = parse_tag(&value)?;
        if tags.contains(&tag) {
            return Err(repeated("tag"));
        }
        if tags.len() >= MAX_TAGS {
            let message = format!("a push sets at most {MAX_TAGS} tags: push again with the others");
            return Err(unsupported(StatusCode::URI_TOO_LONG, message));
        }
        tags.push(tag);
    }
    match reference {
        Reference::Digest(_) => Ok(tags),
        Reference::Tag(tag) if tags.is_empty() => Ok(vec![tag.clone()]),
        Reference::Tag(_) => {
            Err(refused("`tag` belongs to a push by digest: this one already names a tag in its path"))
        }
    }
}

/// Writes the operation's parameters.
pub fn push(target: &mut String, operation: &Operation) {
    let mut separator = '?';
    let mut push = |name: &str, value: &str| {
        target.push(separator);
        separator = '&';
        target.push_str(name);
        target.push('=');
        target.extend(utf8_percent_encode(value, ENCODED));
    };
    match operation {
        Operation::Catalog { page } | Operation::TagsList { page, .. } => {
            if let Some(n) = page.n {
                push("n", &n.to_string());
            }
            if let Some(last) = &page.last {
                push("last", last);
            }
        }
        Operation::Referrers { artifact_type, last, .. } => {
            if let Some(artifact_type) = artifact_type {
                push("artifactType", artifact_type);
            }
            if let Some(last) = last {
                push("last", last.as_str());
            }
        }
        Operation::UploadStart { start: UploadStart::Monolithic(digest), .. }
        | Operation::UploadFinish { digest, .. } => {
            push("digest", digest.as_str());
        }
        Operation::UploadStart { start: UploadStart::Mount { digest, from }, .. } => {
            push("mount", digest.as_str());
            if let Some(from) = from {
                push("from", from.as_str());
            }
        }
        Operation::ManifestPush { reference: Reference::Digest(_), tags, .. } => {
            tags.iter().for_each(|tag| push("tag", tag.as_str()));
        }
        _ => {}
    }
}

/// All but what RFC 3986 calls unreserved, and `:` and `/`, which mean nothing in a query.
const ENCODED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':').remove(b'/');

/// The known parameters, each at most once. Unknown ones are dropped.
fn parameters<'q, const N: usize>(
    query: Option<&'q str>,
    known: [&str; N],
) -> Result<[Option<Cow<'q, str>>; N], ProtocolError> {
    let mut values = [const { None }; N];
    for pair in pairs(query)? {
        let (name, value) = pair?;
        let slot = known.iter().zip(&mut values).find(|(known, _)| **known == name);
        if let Some((known, slot)) = slot
            && slot.replace(value).is_some()
        {
            return Err(repeated(known));
        }
    }
    Ok(values)
}

type Pair<'q> = (Cow<'q, str>, Cow<'q, str>);

fn pairs(query: Option<&str>) -> Result<impl Iterator<Item = Result<Pair<'_>, ProtocolError>>, ProtocolError> {
    let query = query.unwrap_or_default();
    if query.len() > MAX_QUERY_BYTES {
        return Err(unsupported(StatusCode::URI_TOO_LONG, format!("a query has at most {MAX_QUERY_BYTES} bytes")));
    }
    // Some parsers split at `;`, some drop a pair that holds one.
    if query.bytes().any(|byte| byte == b';' || !byte.is_ascii_graphic()) {
        return Err(refused("a query is printable ASCII without spaces and `;`: percent-encode them"));
    }
    Ok(query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((decode(name)?, decode(value)?))
    }))
}

fn decode(text: &str) -> Result<Cow<'_, str>, ProtocolError> {
    if !text.contains(['%', '+']) {
        return Ok(Cow::Borrowed(text));
    }
    decode_escapes(text)
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .map(Cow::Owned)
        .ok_or_else(|| refused(format!("{} is not percent-encoded UTF-8", Excerpt(text))))
}

fn decode_escapes(text: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => (hex_digit(bytes.next()?)? << 4) | hex_digit(bytes.next()?)?,
            plain => plain,
        });
    }
    Some(decoded)
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16)?.try_into().ok()
}

fn no_number(text: &str) -> ProtocolError {
    let message = format!("`n` is a number of entries, from 0 to {}, not {}", u32::MAX, Excerpt(text));
    ProtocolError::new(ErrorCode::PaginationNumberInvalid, message)
}

fn repeated(name: &str) -> ProtocolError {
    refused(format!("the parameter `{name}` is repeated: send it once"))
}

fn refused(message: impl Into<String>) -> ProtocolError {
    unsupported(StatusCode::BAD_REQUEST, message)
}

#[cfg(test)]
mod tests;
