//! Text from guests, made fit to be shown: bounded, without control and bidirectional characters.

/// At most `limit` bytes of the text; what a terminal or a page could take for more than text becomes `\u{fffd}`.
pub fn plain(text: &str, limit: usize) -> String {
    let mut shown = String::with_capacity(text.len().min(limit));
    for character in text.chars() {
        let character = if is_plain(character) { character } else { '\u{fffd}' };
        if shown.len().saturating_add(character.len_utf8()) > limit {
            break;
        }
        shown.push(character);
    }
    shown
}

fn is_plain(character: char) -> bool {
    !character.is_control()
        && !matches!(
            character,
            '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}'
        )
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
