//! Text from guests, made fit to be shown: bounded, without control and bidirectional characters.

use portcullis_oci::text::is_harmful;

/// At most `limit` bytes of the text; what a terminal or a page could take for more than text becomes `\u{fffd}`.
pub fn plain(text: &str, limit: usize) -> String {
    let mut shown = String::with_capacity(text.len().min(limit));
    for character in text.chars() {
        let character = if is_harmful(character) { '\u{fffd}' } else { character };
        if shown.len().saturating_add(character.len_utf8()) > limit {
            break;
        }
        shown.push(character);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn control_and_bidirectional_characters_are_shown_as_such() {
        assert_eq!(plain("a\u{1b}[31mb\u{202e}c\n", 64), "a\u{fffd}[31mb\u{fffd}c\u{fffd}");
    }

    #[test]
    fn a_long_text_ends_at_a_character() {
        assert_eq!(plain("aéé", 4), "aé");
    }
}
