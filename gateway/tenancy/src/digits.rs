//! Numbers as text: base 32 for identifiers, base 62 for secrets.

use zeroize::Zeroizing;

const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// 128 bits as 26 digits.
pub(crate) fn base32(mut number: [u8; 16]) -> Box<str> {
    digits::<26>(&mut number, BASE32).iter().map(|digit| char::from(*digit)).collect::<String>().into()
}

/// A big-endian number as `N` digits, most significant first; the number is used up.
pub(crate) fn base62<const N: usize>(number: &mut [u8]) -> Zeroizing<[u8; N]> {
    digits(number, BASE62)
}

/// Whether a byte is a digit of base 62.
pub(crate) fn is_base62(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

#[expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "the remainder is always smaller than the base, which is at most 62 and never zero"
)]
fn digits<const N: usize>(number: &mut [u8], alphabet: &[u8]) -> Zeroizing<[u8; N]> {
    let base = alphabet.len();
    let mut text = Zeroizing::new([0; N]);
    for place in text.iter_mut().rev() {
        let mut remainder = 0;
        for byte in number.iter_mut() {
            let dividend = remainder << 8 | usize::from(*byte);
            *byte = u8::try_from(dividend / base).expect("remainder < base, so the quotient is below 256");
            remainder = dividend % base;
        }
        *place = alphabet[remainder];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_count_in_their_base() {
        assert_eq!(*base62::<3>(&mut 61_u32.to_be_bytes()), *b"00z");
        assert_eq!(*base62::<3>(&mut 62_u32.to_be_bytes()), *b"010");
        assert_eq!(*base62::<6>(&mut u32::MAX.to_be_bytes()), *b"4gfFC3");
        assert_eq!(&*base32([0; 16]), "a".repeat(26));
        assert_eq!(&*base32([255; 16]), format!("h{}", "7".repeat(25)));
    }

    #[test]
    fn no_256_bit_number_outgrows_43_digits() {
        let mut number = [255; 32];
        base62::<43>(&mut number);
        assert_eq!(number, [0; 32], "all of it went into the digits");
    }
}
