//! Text that somebody else chose, as people are shown it.

/// Whether a character could be taken for more than text by a terminal or a page: it steers, turns text around, or is not seen.
pub fn is_harmful(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_turns_around_or_is_not_seen_is_harmful_and_text_is_not() {
        assert!(
            "\0\n\u{1b}\u{9b}\u{61c}\u{200f}\u{202e}\u{2066}\u{206f}\u{feff}\u{fffb}\u{e0041}".chars().all(is_harmful)
        );
        assert!(!"acme/app:1.0 é 漢 🐳".chars().any(is_harmful));
    }
}
