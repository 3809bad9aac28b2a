//! The context that one service hands to the next (W3C Trace Context): `traceparent` and `tracestate`, read and written.

use http::{HeaderMap, HeaderName, HeaderValue};
use std::fmt;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Most bytes of a `tracestate` that are passed on; a longer one is left out as a whole.
const MAX_STATE: usize = 512;

/// A trace's id, never zero.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub struct TraceId(u128);

/// A span's id, never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanId(u64);

/// Where a request stands in somebody's trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// The trace.
    pub trace: TraceId,
    /// The span that whoever comes next is a part of.
    pub span: SpanId,
    /// Whether it is recorded.
    pub sampled: bool,
    /// What else tracing systems hand on.
    pub state: Option<HeaderValue>,
}

impl TraceId {
    /// A new one.
    pub fn random() -> Self {
        let mut bytes = [0; 16];
        crate::app::random(&mut bytes);
        Self(u128::from_be_bytes(bytes).max(1))
    }
}

impl SpanId {
    /// A new one.
    pub fn random() -> Self {
        let mut bytes = [0; 8];
        crate::app::random(&mut bytes);
        Self(u64::from_be_bytes(bytes).max(1))
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Context {
    /// What a request brings; none where it brings nothing, or nothing that can be read.
    pub fn read(headers: &HeaderMap) -> Option<Self> {
        let mut parents = headers.get_all(TRACEPARENT).iter();
        let (parent, None) = (parents.next()?, parents.next()) else { return None };
        let (trace, span, sampled) = read_parent(parent.to_str().ok()?)?;
        Some(Self { trace, span, sampled, state: read_state(headers) })
    }

    /// Puts it among a request's headers.
    pub fn write(&self, headers: &mut HeaderMap) {
        let parent = format!("00-{}-{}-{:02x}", self.trace, self.span, u8::from(self.sampled));
        if let Ok(parent) = HeaderValue::try_from(parent) {
            headers.insert(TRACEPARENT, parent);
        }
        if let Some(state) = &self.state {
            headers.insert(TRACESTATE, state.clone());
        }
    }
}

/// `00-<trace>-<span>-<flags>`; of later versions, as much as is known of this one (section 3.2.4).
fn read_parent(text: &str) -> Option<(TraceId, SpanId, bool)> {
    let (known, rest) = text.split_at_checked(55)?;
    let mut parts = known.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_known = version == "00" && rest.is_empty();
    let is_later = version != "00" && version != "ff" && (rest.is_empty() || rest.starts_with('-'));
    if parts.next().is_some() || !(is_known || is_later) {
        return None;
    }
    hex(version, 2)?;
    let trace = u128::from_str_radix(hex(trace, 32)?, 16).ok().filter(|id| *id != 0)?;
    let span = u64::from_str_radix(hex(span, 16)?, 16).ok().filter(|id| *id != 0)?;
    let flags = u8::from_str_radix(hex(flags, 2)?, 16).ok()?;
    Some((TraceId(trace), SpanId(span), flags & 1 == 1))
}

/// So many hexadecimal digits, in lower case.
fn hex(text: &str, digits: usize) -> Option<&str> {
    let is_hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (text.len() == digits && is_hex).then_some(text)
}

/// The lists of all its lines as one.
fn read_state(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut whole = String::new();
    for value in headers.get_all(TRACESTATE) {
        let value = value.to_str().ok()?.trim_matches([' ', '\t']);
        if !whole.is_empty() && !value.is_empty() {
            whole.push(',');
        }
        whole.push_str(value);
        if whole.len() > MAX_STATE {
            return None;
        }
    }
    let is_plain = !whole.is_empty() && whole.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    is_plain.then(|| HeaderValue::try_from(whole).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn what_is_read_is_written_the_same() {
        for (parent, sampled) in [(PARENT.to_owned(), true), (PARENT.replace("-01", "-00"), false)] {
            let came = headers(&[("traceparent", &parent), ("tracestate", "a=1,b=2")]);
            let context = Context::read(&came).unwrap();
            assert_eq!(context.sampled, sampled);
            let mut sent = HeaderMap::new();
            context.write(&mut sent);
            assert_eq!(sent, came);
        }
    }

    #[test]
    fn what_breaks_the_form_is_not_taken() {
        for parent in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 ",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "0g-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01more",
        ] {
            assert_eq!(Context::read(&headers(&[("traceparent", parent)])), None, "{parent}");
        }
        assert_eq!(Context::read(&headers(&[("traceparent", PARENT), ("traceparent", PARENT)])), None, "two of them");
        assert_eq!(Context::read(&headers(&[("tracestate", "a=1")])), None, "a state of nothing");
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        for parent in [PARENT.replacen("00", "cc", 1), format!("{}-more", PARENT.replacen("00", "cc", 1))] {
            assert!(Context::read(&headers(&[("traceparent", &parent)])).unwrap().sampled, "{parent}");
        }
    }

    #[test]
    fn a_state_is_passed_on_whole_or_not_at_all() {
        let state = |lines: &[&str]| {
            let mut all = vec![("traceparent", PARENT)];
            all.extend(lines.iter().map(|line| ("tracestate", *line)));
            Context::read(&headers(&all)).unwrap().state
        };
        assert_eq!(state(&["a=1", "b=2"]).unwrap(), "a=1,b=2");
        assert_eq!(state(&[]), None);
        assert_eq!(state(&[""]), None);
        assert_eq!(state(&[&"a".repeat(MAX_STATE)]).unwrap().len(), MAX_STATE);
        assert_eq!(state(&[&"a".repeat(MAX_STATE + 1)]), None);
        assert_eq!(state(&["a=\u{202e}"]), None);
        assert_eq!(state(&["a=\tb"]), None);
    }

    proptest! {
        #[test]
        fn nothing_that_is_sent_makes_it_fail(parent in "[ -~]{0,80}", state in "[ -~]{0,80}") {
            let _ = Context::read(&headers(&[("traceparent", &parent), ("tracestate", &state)]));
        }
    }
}
